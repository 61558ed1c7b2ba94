"""A tiny real model, and what a training needs around it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evsys_hydra import registry
from evsys_hydra.config import LoraConfig, ModelConfig, RunConfig, typed
from evsys_hydra.demo import MODEL_DIR
from evsys_hydra.inference.local import LocalInference
from evsys_hydra.record import ArmRecord
from evsys_hydra.record.files import read_lines
from evsys_hydra.results import RunResult
from evsys_hydra.training.context import InLoopEval, Row, TrainContext
from evsys_hydra.training.sft import train
from evsys_hydra.training.sft_config import SFTConfig

WORDS = ("ant", "bear", "cat", "dolphin", "eagle", "fox", "giraffe", "horse", "ibis", "jaguar", "koala", "lion")
ROWS: list[Row] = [{"prompt": f"Say {word}.", "completion": word * (1 + place % 3)} for place, word in enumerate(WORDS)]


def make_tiny_model(directory: Path, *, dropout: float = 0.0) -> Path:
    """A random Llama of a few thousand weights with the demo's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        attention_dropout=dropout,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(MODEL_DIR, local_files_only=True).save_pretrained(directory)
    return directory


def sft_config(**settings: Any) -> SFTConfig:
    """A short training; settings override."""
    config = typed(registry.algorithms, {"kind": "sft", "lr": 1e-3, "max_steps": 6, "batch_size": 4, **settings})
    assert isinstance(config, SFTConfig)
    return config


def make_context(
    directory: Path,
    model: Path | str,
    *,
    rows: Sequence[Row] = ROWS,
    seed: int = 0,
    lora: LoraConfig | None = None,
    start_from: Path | None = None,
    in_loop: Sequence[InLoopEval] = (),
    **model_settings: Any,
) -> TrainContext:
    """A context with a real record in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    run = RunConfig.model_construct(  # type: ignore[call-arg]  # an algorithm reads no more of it
        name=directory.name,
        group=directory.name,
        seed=seed,
        model=ModelConfig(name=str(model), lora=lora, **model_settings),
        inference=LocalInference(),
        tags=[],
    )
    return TrainContext(run, rows, directory, ArmRecord(directory), start_from, in_loop)


def run_sft(directory: Path, model: Path | str, settings: dict[str, Any] | None = None, **context: Any) -> RunResult:
    """Train and give the result."""
    result: RunResult = train(sft_config(**settings or {}), make_context(directory, model, **context))
    return result


def run_kind(
    kind: str, directory: Path, model: Path | str, settings: dict[str, Any] | None = None, **context: Any
) -> RunResult:
    """Train by any algorithm and give the result."""
    entry = registry.algorithms.get(kind)
    config = typed(registry.algorithms, {"kind": kind, "lr": 1e-3, "max_steps": 6, "batch_size": 4, **(settings or {})})
    result: RunResult = entry.target(config, make_context(directory, model, **context))
    return result


def weights_hash(result: RunResult | Path) -> str:
    """Hash of the final checkpoint's weights."""
    directory = result if isinstance(result, Path) else Path(result.artifacts["checkpoint"])
    digest = hashlib.sha256()
    for file in sorted(directory.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def events(directory: Path, kind: str) -> list[dict[str, Any]]:
    """The recorded facts of a kind."""
    return [line for line in read_lines(directory / "events.jsonl") if line["kind"] == kind]
