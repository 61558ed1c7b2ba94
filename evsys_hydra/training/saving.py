"""What a training keeps on disk: resumable checkpoints along the way, the best one, the final one.

A resumable checkpoint holds the model, the optimizer, all random generators and the loop's figures; the data order
follows from seed and step. So a resumed training gives the same bits as one that was never stopped.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..record.files import read_json, write_json
from .checkpoint import (
    MANIFEST,
    facts_of,
    keep_newest,
    newest_complete,
    problem_of,
    remove_unfinished,
    step_checkpoints,
    step_name,
    write_checkpoint,
)
from .distributed import ALONE, Ranks
from .errors import CheckpointError
from .loop_config import LoopConfig
from .schedule import steps_of
from .seeding import restore_rng_state, rng_state

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPTIMIZER, GENERATORS, STATE = "optimizer.pt", "generators.pt", "state.json"
FINAL, BEST_PREFIX = "final", "best-"


def saver_for(config: LoopConfig, directory: Path, config_hash: str, ranks: Ranks = ALONE) -> Saver:
    """The saver of an arm's directory.

    Args:
        config_hash: what is trained (`sft.training_hash`).
    """
    return Saver(
        directory / "checkpoints",
        config_hash,
        config.save_every_steps,
        config.save_every_minutes,
        config.keep_last,
        ranks,
        config.save_at,
    )


def clear(config: LoopConfig, directory: Path, checkpoint: Path) -> None:
    """Remove what a training needs no more once its result is on disk.

    The last resumable checkpoints stay if they were asked for by steps.

    Args:
        directory: the arm's.
        checkpoint: what training ended with.
    """
    kept = directory / "checkpoints"
    keep_newest(kept, config.keep_last if config.save_every_steps or config.save_at else 0)
    for path in kept.glob(f"{BEST_PREFIX}*"):
        if path.resolve() != checkpoint.resolve():
            shutil.rmtree(path, ignore_errors=True)


@dataclass
class Saver:
    """Writes an arm's checkpoints.

    Args:
        directory: where they go.
        config_hash: what was trained; a checkpoint of something else is never resumed from.
        every_steps, every_minutes: when a resumable checkpoint is due; None: never.
        keep_last: resumable checkpoints kept.
        at: shares of all steps after which one is due as well.
        ranks: all of them call what is here, the first one writes.
    """

    directory: Path
    config_hash: str
    every_steps: int | None
    every_minutes: float | None
    keep_last: int
    ranks: Ranks = ALONE
    at: Sequence[float] = ()
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def resumable(self) -> Path | None:
        """The newest complete checkpoint of this very training.

        Removes what comes after it (damaged, or of another config in this directory) and what killed writes left.
        """
        return self.ranks.agreed(self._resumable() if self.ranks.is_first else None)

    def _resumable(self) -> Path | None:
        newest = newest_complete(self.directory, config_hash=self.config_hash)
        for path in step_checkpoints(self.directory):
            if newest is None or path > newest:
                shutil.rmtree(path, ignore_errors=True)
        done = 0 if newest is None else facts_of(newest)["step"]
        for path in self._bests():
            facts = {} if problem_of(path) else facts_of(path)
            if facts.get("config_hash") != self.config_hash or facts["step"] > done:
                shutil.rmtree(path, ignore_errors=True)
        remove_unfinished(self.directory)
        return newest

    def is_due(self, done: int, total: int) -> bool:
        """Whether to save after so many of all steps."""
        by_steps = self.every_steps is not None and done % self.every_steps == 0
        by_steps = by_steps or done in [steps_of(share, total) for share in self.at]
        by_time = self.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * self.every_minutes
        return self.ranks.agreed(by_steps or by_time)

    def save_resumable(
        self,
        done: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
    ) -> Path:
        """Write the checkpoint of a step, then remove those that are too old."""
        import torch

        generators = self.ranks.gathered(rng_state())
        moments = self._optimizer_state(optimizer)

        def add(directory: Path) -> None:
            torch.save(moments, directory / OPTIMIZER)
            torch.save(generators, directory / GENERATORS)
            write_json(directory / STATE, state)

        path = self._save_model(step_name(done), done, model, tokenizer, add=add)
        if self.ranks.is_first:
            keep_newest(self.directory, self.keep_last)
            self._remove_bests()
        self.postpone()
        return path

    def postpone(self) -> None:
        """The next checkpoint by time is due a whole interval from now."""
        self._saved_at = time.monotonic()

    def restore(self, path: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Put optimizer and random generators back; the state that was saved."""
        import torch

        moments = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
        if self.ranks.sharded:
            from .sharding import spread_optimizer_state

            moments = spread_optimizer_state(moments, optimizer)
        optimizer.load_state_dict(moments)
        generators = torch.load(path / GENERATORS, map_location="cpu", weights_only=True)
        restore_rng_state(generators[self.ranks.rank])
        state: dict[str, Any] = read_json(path / STATE) or {}
        return state

    def save_best(self, done: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
        """Write the best checkpoint so far; the one that was stays while a resumable checkpoint goes on from it."""
        path = self._save_model(self._best_of(done).name, done, model, tokenizer)
        if self.ranks.is_first:
            self._remove_bests(path)
        return path

    def best(self, step: int) -> Path:
        """Where the best checkpoint is.

        Raises:
            CheckpointError: it is gone.
        """
        path = self._best_of(step)
        if self.ranks.is_first and not (path / MANIFEST).is_file():
            raise CheckpointError(f"the best checkpoint {path} is gone. Remove {self.directory} and train again")
        return path

    def _best_of(self, step: int) -> Path:
        return self.directory / f"{BEST_PREFIX}{step_name(step)}"

    def _bests(self) -> list[Path]:
        return sorted(self.directory.glob(f"{BEST_PREFIX}*"))

    def _remove_bests(self, *keep: Path) -> None:
        """Remove the best checkpoints besides `keep` that no resumable checkpoint has for its best."""
        states = [read_json(path / STATE) or {} for path in step_checkpoints(self.directory)]
        steps = [(state.get("watch") or {}).get("best_step") for state in states]
        named = {*keep, *(self._best_of(step) for step in steps if step is not None)}
        for path in self._bests():
            if path not in named:
                shutil.rmtree(path, ignore_errors=True)

    def save_final(
        self,
        done: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dtype: torch.dtype | None = None,
    ) -> Path:
        """Write the checkpoint of the finished training.

        Args:
            dtype: precision its weights are saved in; None: the one they have.
        """
        if self.ranks.is_first:
            shutil.rmtree(self.directory / FINAL, ignore_errors=True)  # of an earlier training in this directory
        return self._save_model(FINAL, done, model, tokenizer, dtype)

    def _optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if not self.ranks.sharded:
            return optimizer.state_dict()
        from .sharding import whole_optimizer_state

        return whole_optimizer_state(optimizer)

    def _save_model(
        self,
        name: str,
        done: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dtype: torch.dtype | None = None,
        add: Callable[[Path], None] = lambda directory: None,
    ) -> Path:
        """Write weights, tokenizer and what `add` adds; in the first rank, with the weights of all."""
        weights: dict[str, Any] = {}
        if self.ranks.sharded:
            from .sharding import whole_weights

            weights = {"state_dict": {key: value.to(dtype) for key, value in whole_weights(model).items()}}
        elif dtype is not None:
            model = model.to(dtype)  # type: ignore[arg-type]

        def fill(directory: Path) -> None:
            model.save_pretrained(directory, **weights)
            tokenizer.save_pretrained(directory)
            add(directory)

        path = self.directory / name
        return write_checkpoint(path, fill, self._facts(done)) if self.ranks.is_first else path

    def _facts(self, done: int) -> dict[str, Any]:
        return {"step": done, "config_hash": self.config_hash}
