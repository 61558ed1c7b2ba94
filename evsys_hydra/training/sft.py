"""`sft`: supervised fine-tuning by a loop of our own, full or through adapters.

Measured against transformers' Trainer and TRL (docs/training.md): forward passes of similar length, the output head
on trained positions only, a fused optimizer and fp32 on CPUs without bf16 are what makes it fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ..errors import ConfigError
from ..inference.local import prompt_style
from ..models import device, load_model, resolve_dtype
from ..registry import register_algorithm
from ..results import RunResult
from .batching import CPU_PASS_COST, GPU_PASS_COST, Batches
from .check import FLOAT16
from .context import TrainContext
from .encoding import Encoded, encode_rows
from .loop_config import LoopConfig
from .processes import in_processes
from .rows import rows_hash
from .saving import Saver, saver_for
from .schedule import steps_of
from .seeding import set_seed
from .sft_config import SFTConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .loop import Loop
    from .stepping import Loss


@register_algorithm("sft", config=SFTConfig)
def train(config: SFTConfig, context: TrainContext) -> RunResult:
    """Fine-tune a model on rows; goes on by itself where an earlier attempt in this directory was stopped.

    Returns:
        metrics: train_loss, train_loss_mean, tokens, train_seconds, tokens_per_s, steps, n_examples, n_truncated,
        n_dropped; artifacts["checkpoint"]: the directory of the final (or best) checkpoint in Hugging Face format.

    Raises:
        DataError, ConfigError, TrainingDiverged, TrainingOutOfMemory
    """
    return in_processes(_train, config, context)


def _train(config: SFTConfig, context: TrainContext) -> RunResult:
    """Train, in this process or in this rank."""
    saver = saver_for(config, context.directory, training_hash(config, context), context.ranks)
    resumable = saver.resumable()
    model, tokenizer = load_trainable(context, resumable)
    encoded = encode_rows(context.rows, tokenizer, config.encoding(longest_sequence(model, tokenizer)))
    _report_data(context, encoded)
    loop = make_loop(config, context, saver, model, tokenizer, encoded)
    if resumable is not None:
        loop.resume(resumable)
    loop.run()
    counted = {"n_examples": len(encoded.examples), "n_truncated": encoded.n_truncated, "n_dropped": encoded.n_dropped}
    return finish(loop, counted)


def training_hash(config: LoopConfig, context: TrainContext) -> str:
    """What decides the trained weights: model, algorithm, seed, rows and start. Not names, tags or log intervals."""
    settings = config.model_dump(
        mode="json", exclude={"log_every", "save_every_steps", "save_every_minutes", "save_at", "keep_last"}
    )
    parts = {
        "model": context.run.model.model_dump(mode="json"),
        "algorithm": settings,
        "seed": context.run.seed,
        "rows": rows_hash(context.rows),
        "start_from": None if context.start_from is None else str(context.start_from),
    }
    if config.samples:
        parts["prompt"] = prompt_style(context.run.inference)
    if context.ranks.size > 1:
        parts["ranks"] = context.ranks.size
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def longest_sequence(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens that model and tokenizer can take; None: no limit is known."""
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 1 << 30]
    return min(known, default=None)


def load_trainable(context: TrainContext, resumable: Path | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that is trained, its seed set before any of its weights is drawn.

    Args:
        resumable: a checkpoint of this training; None: its start.
    """
    import torch

    from .adapters import add_adapters, has_adapters
    from .sharding import shard

    run = context.run
    dtype = resolve_dtype(run.model.dtype)
    if dtype == torch.float16:
        raise ConfigError(f"model.dtype=float16 {FLOAT16}: use bfloat16 or float32")
    set_seed(run.seed)
    # Full fine-tuning keeps float32 weights under bfloat16 arithmetic: small updates would be lost in bfloat16 weights.
    weights = dtype if run.model.lora is not None else torch.float32
    model, tokenizer = load_model(run.model, resumable or context.start_from, dtype=weights, trainable=True)
    if run.model.lora is not None and not has_adapters(model):
        model = add_adapters(model, run.model.lora)
    context.ranks.own_seed(run.seed)
    if context.ranks.sharded:
        shard(model)
    return model, tokenizer


def make_loop(
    config: SFTConfig,
    context: TrainContext,
    saver: Saver,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
) -> Loop:
    """The loop of a supervised fine-tuning."""
    from .loss import LabelLoss, PackedLoss

    make_loss = PackedLoss if config.packing else LabelLoss
    loss = make_loss(model, encoded.examples, pad_id=tokenizer.pad_token_id or 0)
    lengths = [len(example.ids) for example in encoded.examples]
    return loop_for(config, context, saver, model, tokenizer, loss, lengths, packed=config.packing)


def loop_for(
    config: LoopConfig,
    context: TrainContext,
    saver: Saver,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    loss: Loss,
    lengths: list[int],
    *,
    packed: bool = False,
) -> Loop:
    """The loop that minimizes a loss over examples of these lengths, in tokens.

    Args:
        packed: the loss takes examples behind each other in a row.
    """
    from .loop import Loop
    from .optimizer import make_optimizer
    from .stepping import Stepper

    if config.gradient_checkpointing:
        _recompute_activations(model)
    batches = Batches(len(lengths), config.batch_size, context.run.seed)
    autocast = autocast_for(context, model)
    stepper = Stepper(
        loss=loss,
        optimizer=make_optimizer(model, lr=config.lr, weight_decay=config.weight_decay, betas=config.betas),
        lengths=lengths,
        pass_cost=CPU_PASS_COST if device().type == "cpu" else GPU_PASS_COST,
        micro_batch_size=config.largest_pass,
        max_grad_norm=config.max_grad_norm,
        autocast=autocast,
        on_halved=lambda size: context.record.event("out_of_memory_retried", micro_batch_size=size),
        ranks=context.ranks,
        packed=packed,
    )
    total = config.max_steps or steps_of(config.epochs, batches.steps_per_epoch)
    return Loop(config, context, model, tokenizer, batches, stepper, saver, total, autocast)


def _recompute_activations(model: PreTrainedModel) -> None:
    # transformers 5.2x renamed the method
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def autocast_for(context: TrainContext, model: PreTrainedModel) -> Callable[[], AbstractContextManager[object]]:
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


def finish(loop: Loop, counted: Mapping[str, float]) -> RunResult:
    """Save the final checkpoint; the run's result.

    Resumable checkpoints stay until the result is on disk, where `saving.clear` is called.

    Args:
        counted: the algorithm's own figures of its data.

    Raises:
        CheckpointError: the best checkpoint is gone.
    """
    watch, run = loop.watch, loop.context.run
    if watch.config is not None and watch.config.keep_best and watch.best_step is not None:
        checkpoint, step = loop.saver.best(watch.best_step), watch.best_step
    else:
        dtype = resolve_dtype(run.model.dtype) if run.model.lora is None else None
        checkpoint, step = loop.saver.save_final(loop.done, loop.model, loop.tokenizer, dtype), loop.done
    loop.context.record.checkpoint(checkpoint, step, final=True)
    figures = {
        **loop.telemetry.final(),
        "steps": float(loop.done),
        **{name: float(value) for name, value in counted.items()},
    }
    extras = {
        "steps": loop.done,
        "train_seconds": figures["train_seconds"],
        "stopped_early": loop.stopped_early,
        "checkpoint_step": step,
        "micro_batch_size": loop.stepper.micro_batch_size,
    }
    return RunResult(run.name, metrics=figures, artifacts={"checkpoint": str(checkpoint.resolve())}, extras=extras)
