from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.demo import MODEL_DIR

from .parts import make_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random model."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The demo's tokenizer: one token a byte, with `{% generation %}` marks in its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_DIR, local_files_only=True)
