from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes in one thread, so that its sums are always added up in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The demo's tokenizer: one token a byte."""
    from evsys_hydra.config import ModelConfig
    from evsys_hydra.models import load_tokenizer

    return load_tokenizer(ModelConfig(name="demo"))
