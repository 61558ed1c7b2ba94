"""The cache with room holds what transformers' own holds: padded on the left, grown past its room, cut to rows."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicLayer

from evsys_hydra.inference.cache import ROOM, RoomyLayer


def test_a_joined_layer_grows_and_is_cut_like_transformers_own() -> None:
    torch.manual_seed(0)
    parts = []
    for rows, length in ((2, 7), (3, 4)):
        part = DynamicLayer()
        part.update(torch.randn(rows, 2, length, 5), torch.randn(rows, 2, length, 5))
        parts.append(part)
    own = DynamicLayer()
    pads = [(0, 0, 7 - part.keys.shape[-2], 0) for part in parts]
    keys, values = (
        torch.cat([torch.nn.functional.pad(each, pad) for each, pad in zip(every, pads, strict=True)])
        for every in ([part.keys for part in parts], [part.values for part in parts])
    )
    own.update(keys, values)
    roomy = RoomyLayer(parts, 7)
    for step in range(2 * ROOM + 5):
        more = torch.randn(len(own.keys), 2, 1, 5), torch.randn(len(own.keys), 2, 1, 5)
        for ours, theirs in zip(roomy.update(*more), own.update(*more), strict=True):
            assert torch.equal(ours, theirs)
        if step in (3, ROOM):
            kept = torch.tensor([0, 2, 4] if step == 3 else [0, 2])
            roomy.batch_select_indices(kept)
            own.batch_select_indices(kept)
        assert roomy.get_seq_length() == own.get_seq_length()
        assert roomy.get_mask_sizes(1) == own.get_mask_sizes(1)
    assert len(roomy.keys) == 2
