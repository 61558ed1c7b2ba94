"""`sft`: supervised fine-tuning by a loop of our own, full or through adapters.

Measured against transformers' Trainer and TRL (docs/training.md): forward passes of similar length, the output head
on trained positions only, a fused optimizer and fp32 on CPUs without bf16 are what makes it fast.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ..errors import ConfigError
from ..models import device, load_model, resolve_dtype
from ..registry import register_algorithm
from ..results import RunResult
from .batching import CPU_PASS_COST, GPU_PASS_COST, Batches
from .context import TrainContext
from .encoding import Encoded, encode_rows
from .rows import rows_hash
from .saving import Saver
from .seeding import set_seed
from .sft_config import SFTConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .loop import Loop


@register_algorithm("sft", config=SFTConfig)
def train(config: SFTConfig, context: TrainContext) -> RunResult:
    """Fine-tune a model on rows; goes on by itself where an earlier attempt in this directory was stopped.

    Returns:
        metrics: train_loss, train_loss_mean, tokens, train_seconds, tokens_per_s, steps, n_examples, n_truncated,
        n_dropped; artifacts["checkpoint"]: the directory of the final (or best) checkpoint in Hugging Face format.

    Raises:
        DataError, ConfigError, TrainingDiverged, TrainingOutOfMemory
    """
    saver = Saver(
        directory=context.directory / "checkpoints",
        config_hash=training_hash(config, context),
        every_steps=config.save_every_steps,
        every_minutes=config.save_every_minutes,
        keep_last=config.keep_last,
    )
    resumable = saver.resumable()
    model, tokenizer = _load(context, resumable)
    encoded = encode_rows(context.rows, tokenizer, config.encoding(longest_sequence(model, tokenizer)))
    _report_data(context, encoded)
    loop = make_loop(config, context, saver, model, tokenizer, encoded)
    if resumable is not None:
        loop.resume(resumable)
    loop.run()
    return _finish(loop, encoded)


def training_hash(config: SFTConfig, context: TrainContext) -> str:
    """What decides the trained weights: model, algorithm, seed, rows and start. Not names, tags or log intervals."""
    settings = config.model_dump(
        mode="json", exclude={"log_every", "save_every_steps", "save_every_minutes", "keep_last"}
    )
    parts = {
        "model": context.run.model.model_dump(mode="json"),
        "algorithm": settings,
        "seed": context.run.seed,
        "rows": rows_hash(context.rows),
        "start_from": None if context.start_from is None else str(context.start_from),
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def longest_sequence(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens that model and tokenizer can take; None: no limit is known."""
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 1 << 30]
    return min(known, default=None)


def _load(context: TrainContext, resumable: Path | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that is trained, its seed set before any of its weights is drawn."""
    import torch

    from .adapters import add_adapters, has_adapters

    run = context.run
    dtype = resolve_dtype(run.model.dtype)
    if dtype == torch.float16:
        raise ConfigError("model.dtype=float16 cannot be trained in (its gradients underflow): use bfloat16 or float32")
    set_seed(run.seed)
    # Full fine-tuning keeps float32 weights under bfloat16 arithmetic: small updates would be lost in bfloat16 weights.
    weights = dtype if run.model.lora is not None else torch.float32
    model, tokenizer = load_model(run.model, resumable or context.start_from, dtype=weights, trainable=True)
    if run.model.lora is not None and not has_adapters(model):
        model = add_adapters(model, run.model.lora)
    return model, tokenizer


def make_loop(
    config: SFTConfig,
    context: TrainContext,
    saver: Saver,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
) -> Loop:
    from .loop import Loop
    from .loss import LabelLoss
    from .optimizer import make_optimizer
    from .stepping import Stepper

    if config.gradient_checkpointing:
        _recompute_activations(model)
    batches = Batches(len(encoded.examples), config.batch_size, context.run.seed)
    autocast = _autocast(context, model)
    stepper = Stepper(
        loss=LabelLoss(model, encoded.examples, pad_id=tokenizer.pad_token_id or 0),
        optimizer=make_optimizer(model, lr=config.lr, weight_decay=config.weight_decay, betas=config.betas),
        lengths=[len(example.ids) for example in encoded.examples],
        pass_cost=CPU_PASS_COST if device().type == "cpu" else GPU_PASS_COST,
        micro_batch_size=min(config.micro_batch_size or config.batch_size, config.batch_size),
        max_grad_norm=config.max_grad_norm,
        autocast=autocast,
        on_halved=lambda size: context.record.event("out_of_memory_retried", micro_batch_size=size),
    )
    total = config.max_steps or math.ceil(config.epochs * batches.steps_per_epoch)
    return Loop(config, context, model, tokenizer, batches, stepper, saver, total, autocast)


def _recompute_activations(model: PreTrainedModel) -> None:
    # transformers 5.2x renamed the method
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _autocast(context: TrainContext, model: PreTrainedModel) -> Callable[[], AbstractContextManager[object]]:
    """Bfloat16 arithmetic over float32 weights, where the config's precision is bfloat16."""
    import torch

    if resolve_dtype(context.run.model.dtype) == torch.bfloat16 and model.dtype == torch.float32:
        return partial(torch.autocast, device().type, dtype=torch.bfloat16)
    return nullcontext


def _report_data(context: TrainContext, encoded: Encoded) -> None:
    context.record.event(
        "training_data",
        n_rows=encoded.n_rows,
        n_examples=len(encoded.examples),
        n_truncated=encoded.n_truncated,
        n_dropped=encoded.n_dropped,
        n_tokens=encoded.n_tokens,
        n_trained_tokens=encoded.n_trained_tokens,
    )


def _finish(loop: Loop, encoded: Encoded) -> RunResult:
    """Save the final checkpoint; the run's result."""
    watch, run = loop.watch, loop.context.run
    if watch.config is not None and watch.config.keep_best and watch.best_step is not None:
        checkpoint, step = loop.saver.best(watch.best_step), watch.best_step
    else:
        dtype: torch.dtype = resolve_dtype(run.model.dtype)
        model = loop.model if run.model.lora is not None else loop.model.to(dtype)  # type: ignore[arg-type]
        checkpoint, step = loop.saver.save_final(loop.done, model, loop.tokenizer), loop.done
    loop.context.record.checkpoint(checkpoint, step, final=True)
    loop.saver.finish()
    figures = {
        **loop.telemetry.final(),
        "steps": float(loop.done),
        "n_examples": float(len(encoded.examples)),
        "n_truncated": float(encoded.n_truncated),
        "n_dropped": float(encoded.n_dropped),
    }
    extras = {
        "steps": loop.done,
        "train_seconds": figures["train_seconds"],
        "stopped_early": loop.stopped_early,
        "checkpoint_step": step,
        "micro_batch_size": loop.stepper.micro_batch_size,
    }
    return RunResult(run.name, metrics=figures, artifacts={"checkpoint": str(checkpoint.resolve())}, extras=extras)
