"""Packed rows: the same loss and gradients as unpacked, because sequences do not see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsys_hydra.config import ModelConfig
from evsys_hydra.errors import ConfigError
from evsys_hydra.models import load_model
from evsys_hydra.training.batching import PACKED_TOKENS, split_by_packing
from evsys_hydra.training.encoding import EncodingOptions, encode_rows
from evsys_hydra.training.loss import LabelLoss, PackedLoss, sees_only_itself

from .parts import ROWS, events, run_sft


@given(lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=30), most=st.integers(1, 9))
def test_every_example_is_in_one_row_that_is_not_too_long(lengths: list[int], most: int) -> None:
    rows = split_by_packing(range(len(lengths)), lengths, most=most)
    assert sorted(member for row in rows for member in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[member] for member in row) <= PACKED_TOKENS for row in rows)
    assert max(map(len, rows)) <= most


@pytest.mark.model
def test_sequences_of_a_row_do_not_see_each_other(tiny: Path) -> None:
    """Other neighbours change no logit of a sequence; with a mask that is causal only they do."""
    import torch

    model, tokenizer = load_model(ModelConfig(name=str(tiny)))
    assert sees_only_itself(model)
    examples = encode_rows(ROWS, tokenizer, EncodingOptions()).examples
    packed, padded = (kind(model, examples, pad_id=0) for kind in (PackedLoss, LabelLoss))
    inputs, _, _ = packed._batch([examples[0], examples[1]])
    own = len(examples[1].ids)
    with torch.no_grad():
        behind = model(**inputs, use_cache=False).logits[0, -own:]
        alone = model(input_ids=inputs["input_ids"][:, -own:], use_cache=False).logits[0]
        seen = model(**inputs, use_cache=True).logits[0, -own:]
    torch.testing.assert_close(behind, alone, rtol=1e-5, atol=1e-6)
    assert (seen - alone).abs().max() > 1e-3
    grown = []
    for loss in (packed, padded):
        model.zero_grad()
        value = loss([0, 3, 5, 7])
        value.backward()  # type: ignore[no-untyped-call]
        grown.append(
            (value.item(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
        )
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-6)
    for a, b in zip(grown[0][1], grown[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.model
def test_a_packed_training_is_that_of_an_unpacked_one(tiny: Path, tmp_path: Path) -> None:
    for name in ("packed", "padded"):
        run_sft(tmp_path / name, tiny, {"log_every": 1, "batch_size": 6, "packing": name == "packed"})
    a, b = ([line["values"]["loss"] for line in events(tmp_path / name, "metrics")] for name in ("packed", "padded"))
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.model
def test_a_model_whose_sequences_see_each_other_is_not_packed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    plain = LlamaForCausalLM.forward

    def forgetful(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", forgetful)
    with pytest.raises(ConfigError, match=r"packing=true: LlamaForCausalLM lets the sequences"):
        run_sft(tmp_path / "a", tiny, {"packing": True})
