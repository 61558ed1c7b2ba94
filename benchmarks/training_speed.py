"""Speed of the `sft` loop, as ratios within one run: against a bare torch loop, transformers' Trainer and TRL.

    python benchmarks/training_speed.py [--rows 1600] [--rounds 3] [--model demo] [--lora] [--batch 16]

All but the Trainer that groups by length make the same steps in the same order, so equal losses mean equal work. All
train the same model on the same chats of varied length with fp32 weights, AdamW and the same schedule, one thread, in
turns. Speed is non-padding tokens a second of this process's CPU time in the loop (loading and tokenizing left out),
the median over the rounds. Loss curves are printed beside it: mean loss over tenths of the tokens, and the loss on
chats that none was trained on. TRL is measured if it is installed (with `datasets`).
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from evsys_hydra import registry
from evsys_hydra.config import LoraConfig, ModelConfig, RunConfig, typed
from evsys_hydra.demo.families import FAMILIES, draw_problems
from evsys_hydra.models import load_model, load_tokenizer
from evsys_hydra.record import ArmRecord
from evsys_hydra.training.adapters import add_adapters
from evsys_hydra.training.batching import CPU_PASS_COST, Batches, split_by_length
from evsys_hydra.training.chat import Tokens
from evsys_hydra.training.context import Row, TrainContext
from evsys_hydra.training.encoding import encode_rows
from evsys_hydra.training.loss import LabelLoss
from evsys_hydra.training.saving import Saver
from evsys_hydra.training.schedule import multiplier, warmup_steps
from evsys_hydra.training.seeding import set_seed
from evsys_hydra.training.sft import make_loop
from evsys_hydra.training.sft_config import SFTConfig
from evsys_hydra.training.telemetry import Telemetry

LR, CLIP, WARMUP = 3e-4, 1.0, 0.05
TENTHS = 10


@dataclass
class Measured:
    """One training: non-padding tokens, CPU seconds, and (tokens, loss) of each step or record."""

    tokens: int
    seconds: float
    held_out: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    recording: float = 0.0
    """Share of the time that went into records and progress."""

    def tenths(self) -> str:
        """Mean loss over each tenth of the tokens."""
        if not self.curve:
            return "(too short for a record)"
        ends = np.cumsum([tokens for tokens, _ in self.curve])
        places = np.minimum((ends - 1) * TENTHS // max(ends[-1], 1), TENTHS - 1)
        losses = np.array([loss for _, loss in self.curve])
        return " ".join(f"{losses[places == tenth].mean():.3f}" for tenth in range(TENTHS) if (places == tenth).any())


@dataclass
class Setting:
    """What all methods share."""

    model: ModelConfig
    rows: list[Row]
    examples: list[Tokens]
    held_out: list[Tokens]
    batch: int

    @property
    def batches(self) -> Batches:
        """The steps that all but the grouped Trainer make, in their order."""
        return Batches(len(self.rows), self.batch, seed=0)

    @property
    def order(self) -> list[int]:
        """The examples in the order of those steps."""
        return [member for step in range(self.batches.steps_per_epoch) for member in self.batches.at(step)]

    def load(self) -> tuple[Any, Any]:
        """A fresh model with its tokenizer."""
        set_seed(0)
        model, tokenizer = load_model(self.model, dtype=torch.float32)
        return (model if self.model.lora is None else add_adapters(model, self.model.lora)), tokenizer

    def loss_of(self, model: Any) -> float:
        """Mean loss a token on the held-out chats."""
        model.eval()
        loss = LabelLoss(model, self.held_out, pad_id=0)
        with torch.no_grad():
            sums = [(float(loss([place])), loss.sizes([place])[1]) for place in range(len(self.held_out))]
        return sum(value for value, _ in sums) / sum(weight for _, weight in sums)

    @property
    def tokens(self) -> int:
        """Tokens of an epoch, padding left out."""
        return sum(len(example.ids) for example in self.examples)


def varied_chats(n: int, *, held_out: bool) -> list[Row]:
    """Chats of 1 to 12 turns (short ones commoner), from the demo's families."""
    rng = random.Random(0)
    problems = draw_problems("training speed", FAMILIES, held_out=held_out)
    rows = []
    for _ in range(n):
        turns = int(12 ** rng.random())
        messages = [
            message
            for problem in islice(problems, turns)
            for message in (
                {"role": "user", "content": problem.prompt},
                {"role": "assistant", "content": problem.answer_in("tag")},
            )
        ]
        rows.append({"messages": messages})
    return rows


def ours(setting: Setting, *, packing: bool = False) -> Measured:
    """The product's loop, recording and progress included."""
    model, tokenizer = setting.load()
    settings = {"lr": LR, "batch_size": setting.batch, "warmup": WARMUP, "packing": packing}
    config = typed(registry.algorithms, {"kind": "sft", **settings})
    assert isinstance(config, SFTConfig)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        run = RunConfig.model_construct(name="speed", seed=0, model=setting.model)  # type: ignore[call-arg]
        context = TrainContext(run, setting.rows, directory, ArmRecord(directory))
        encoded = encode_rows(setting.rows, tokenizer, config.encoding())
        loop = make_loop(config, context, Saver(directory, "", None, None, 1), model, tokenizer, encoded)
        curve: list[tuple[int, float]] = []
        recording = [0.0]
        plain = Telemetry.add

        def add(self: Telemetry, done: int, result: Any, lr: float, seconds: float) -> None:
            curve.append((result.tokens, result.loss_sum / result.weight))
            before = time.process_time()
            plain(self, done, result, lr, seconds)
            recording[0] += time.process_time() - before

        Telemetry.add = add  # type: ignore[method-assign]
        started = time.process_time()
        try:
            loop.run()
        finally:
            Telemetry.add = plain  # type: ignore[method-assign]
        seconds = time.process_time() - started
        return Measured(setting.tokens, seconds, setting.loss_of(model), curve, recording[0] / seconds)


def bare(setting: Setting) -> Measured:
    """A hand-written torch loop that makes the same steps, in the same passes, and nothing else."""
    model, _ = setting.load()
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0, fused=True)
    lengths = [len(example.ids) for example in setting.examples]
    batches = setting.batches
    total = batches.steps_per_epoch
    warmup = warmup_steps(WARMUP, total)
    curve = []
    started = time.process_time()
    for step in range(total):
        members = batches.at(step)
        weight = sum(int(setting.examples[member].trained[1:].sum()) for member in members)
        summed = 0.0
        for part in split_by_length(members, lengths, most=setting.batch, pass_cost=CPU_PASS_COST):
            chosen = [setting.examples[member] for member in part]
            ids = torch.zeros(len(chosen), len(chosen[-1].ids), dtype=torch.long)
            mask = torch.zeros(len(chosen), len(chosen[-1].ids), dtype=torch.bool)
            for row, example in enumerate(chosen):
                ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
                mask[row, : len(example.ids) - 1] = torch.from_numpy(example.trained[1:])
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, ids.roll(-1, 1)[mask], reduction="sum") / weight
            loss.backward()  # type: ignore[no-untyped-call]
            summed += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = LR * multiplier("linear", step, warmup=warmup, total=total)
        optimizer.step()
        optimizer.zero_grad()
        curve.append((sum(lengths[member] for member in members), summed))
    seconds = time.process_time() - started
    return Measured(setting.tokens, seconds, setting.loss_of(model), curve)


class LoopClock(TrainerCallback):
    """CPU seconds from a Trainer's first step to its last, and its losses."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.losses: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.process_time()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = time.process_time() - self._started

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


ARGUMENTS: dict[str, Any] = {
    "learning_rate": LR,
    "lr_scheduler_type": "linear",
    "warmup_steps": WARMUP,
    "max_grad_norm": CLIP,
    "num_train_epochs": 1,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "optim": "adamw_torch_fused",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 0,
}


def trainer(setting: Setting, *, grouped: bool) -> Measured:
    """transformers' Trainer, in the same steps as ours or with its grouping by length."""
    model, _ = setting.load()
    items = [
        {
            "input_ids": example.ids.tolist(),
            "labels": np.where(example.trained, example.ids, -100).tolist(),
            "length": len(example.ids),
        }
        for example in (setting.examples[place] for place in setting.order)
    ]

    def collate(chosen: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(item["input_ids"]) for item in chosen)

        def padded(key: str, value: int) -> torch.Tensor:
            return torch.tensor([item[key] + [value] * (longest - len(item[key])) for item in chosen])

        mask = [[1] * len(item["input_ids"]) + [0] * (longest - len(item["input_ids"])) for item in chosen]
        return {
            "input_ids": padded("input_ids", 0),
            "labels": padded("labels", -100),
            "attention_mask": torch.tensor(mask),
        }

    clock = LoopClock()
    sampling: dict[str, Any] = {"train_sampling_strategy": "group_by_length" if grouped else "sequential"}
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            remove_unused_columns=False,
            per_device_train_batch_size=setting.batch,
            **ARGUMENTS,
            **sampling,
        )
        Trainer(model, arguments, data_collator=collate, train_dataset=items, callbacks=[clock]).train()
    return Measured(setting.tokens, clock.seconds, setting.loss_of(model), [(1, loss) for loss in clock.losses])


def trl(setting: Setting) -> Measured:
    """TRL's SFTTrainer in fp32, loss on the assistant's words, no gradient checkpointing, in the same steps as ours."""
    from datasets import Dataset  # type: ignore[attr-defined,unused-ignore]
    from trl import SFTConfig as TrlConfig  # type: ignore[attr-defined,unused-ignore]
    from trl import SFTTrainer  # type: ignore[attr-defined,unused-ignore]

    model, tokenizer = setting.load()
    clock = LoopClock()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrlConfig(
            output_dir=place,
            max_length=None,
            assistant_only_loss=True,
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=setting.batch,
            **ARGUMENTS,
        )
        SFTTrainer(
            model,
            args=arguments,
            train_dataset=Dataset.from_list([setting.rows[place] for place in setting.order]),
            processing_class=tokenizer,
            callbacks=[clock],
        ).train()
    return Measured(setting.tokens, clock.seconds, setting.loss_of(model), [(1, loss) for loss in clock.losses])


def methods() -> dict[str, Callable[[Setting], Measured]]:
    """What is measured, ours first."""
    chosen: dict[str, Callable[[Setting], Measured]] = {
        "evsys_hydra sft": ours,
        "packed rows": lambda setting: ours(setting, packing=True),
        "bare torch loop": bare,
        "Trainer, grouped by length": lambda setting: trainer(setting, grouped=True),
        "Trainer, same steps": lambda setting: trainer(setting, grouped=False),
    }
    if importlib.util.find_spec("trl") and importlib.util.find_spec("datasets"):
        chosen["TRL SFTTrainer, fp32"] = trl
    return chosen


def main() -> None:
    """Measure in turns; print speeds, ratios and loss curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="demo", help="a directory, or demo")
    parser.add_argument("--gguf-file", default=None)
    parser.add_argument("--chat-template", default=None, help="one with generation marks, where the model's has none")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--batch", type=int, default=16, help="examples a step")
    parser.add_argument("--held-out", type=int, default=64, help="chats that no method trains on")
    parser.add_argument("--only", nargs="*", default=None, help="parts of methods' names; all is the default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]

    model = ModelConfig(
        name=args.model,
        gguf_file=args.gguf_file,
        chat_template=args.chat_template,
        dtype="float32",
        lora=LoraConfig() if args.lora else None,
    )
    rows = varied_chats(args.rows, held_out=False)
    tokenizer = load_tokenizer(model)
    examples, held_out = (
        encode_rows(some, tokenizer, SFTConfig(lr=LR).encoding()).examples
        for some in (rows, varied_chats(args.held_out, held_out=True))
    )
    setting = Setting(model, rows, examples, held_out, args.batch)
    lengths = [len(example.ids) for example in examples]
    print(f"{len(rows)} chats, {setting.tokens} tokens, {min(lengths)} to {max(lengths)} each, {args.rounds} rounds")

    chosen = {
        name: method
        for name, method in methods().items()
        if args.only is None or any(part in name for part in (*args.only, "evsys"))
    }
    results: dict[str, list[Measured]] = {name: [] for name in chosen}
    for _ in range(args.rounds):
        for name, method in chosen.items():
            results[name].append(method(setting))
    speeds = {name: statistics.median(run.tokens / run.seconds for run in runs) for name, runs in results.items()}
    reference = speeds["evsys_hydra sft"]
    print(f"{'':28} tokens/CPU-s  ours is")
    for name, speed in speeds.items():
        ratios = [
            mine.tokens / mine.seconds * run.seconds / run.tokens
            for mine, run in zip(results["evsys_hydra sft"], results[name], strict=True)
        ]
        print(f"{name:28} {speed:12.0f}  {reference / speed:5.2f}x  ({min(ratios):.2f} to {max(ratios):.2f})")
    recording = statistics.median(run.recording for run in results["evsys_hydra sft"])
    print(f"records and progress take {recording:.2%} of our loop's time")
    print(f"{'':28} held-out loss  mean training loss by tenths of the tokens")
    for name, runs in results.items():
        print(f"{name:28} {runs[-1].held_out:13.4f}  {runs[-1].tenths()}")


if __name__ == "__main__":
    main()
