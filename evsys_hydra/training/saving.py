"""What a training keeps on disk: resumable checkpoints along the way, the best one, the final one.

A resumable checkpoint holds the model, the optimizer, all random generators and the loop's figures; the data order
follows from seed and step. So a resumed training gives the same bits as one that was never stopped.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..record.files import read_json, write_json
from .checkpoint import (
    keep_newest,
    newest_complete,
    remove_unfinished,
    step_checkpoints,
    step_name,
    write_checkpoint,
)
from .seeding import restore_rng_state, rng_state

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPTIMIZER, GENERATORS, STATE = "optimizer.pt", "generators.pt", "state.json"
FINAL, BEST_PREFIX = "final", "best-"


@dataclass
class Saver:
    """Writes an arm's checkpoints.

    Args:
        directory: where they go.
        config_hash: what was trained; a checkpoint of something else is never resumed from.
        every_steps, every_minutes: when a resumable checkpoint is due; None: never.
        keep_last: resumable checkpoints kept.
    """

    directory: Path
    config_hash: str
    every_steps: int | None
    every_minutes: float | None
    keep_last: int
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def resumable(self) -> Path | None:
        """The newest complete checkpoint of this very training.

        Removes what comes after it (damaged, or of another config in this directory) and what killed writes left.
        """
        newest = newest_complete(self.directory, config_hash=self.config_hash)
        for path in step_checkpoints(self.directory):
            if newest is None or path > newest:
                shutil.rmtree(path, ignore_errors=True)
        remove_unfinished(self.directory)
        return newest

    def is_due(self, done: int) -> bool:
        """Whether to save after so many steps."""
        by_steps = self.every_steps is not None and done % self.every_steps == 0
        by_time = self.every_minutes is not None and time.monotonic() - self._saved_at >= 60 * self.every_minutes
        return by_steps or by_time

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

        def fill(directory: Path) -> None:
            model.save_pretrained(directory)
            tokenizer.save_pretrained(directory)
            torch.save(optimizer.state_dict(), directory / OPTIMIZER)
            torch.save(rng_state(), directory / GENERATORS)
            write_json(directory / STATE, state)

        path = write_checkpoint(self.directory / step_name(done), fill, self._facts(done))
        keep_newest(self.directory, self.keep_last)
        self.postpone()
        return path

    def postpone(self) -> None:
        """The next checkpoint by time is due a whole interval from now."""
        self._saved_at = time.monotonic()

    def restore(self, path: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Put optimizer and random generators back; the state that was saved."""
        import torch

        optimizer.load_state_dict(torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True))
        restore_rng_state(torch.load(path / GENERATORS, map_location="cpu", weights_only=True))
        state: dict[str, Any] = read_json(path / STATE) or {}
        return state

    def save_best(self, done: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
        """Write the best checkpoint so far and remove the one that was."""
        path = self._save_model(f"{BEST_PREFIX}{step_name(done)}", done, model, tokenizer)
        for old in self.directory.glob(f"{BEST_PREFIX}*"):
            if old != path:
                shutil.rmtree(old, ignore_errors=True)
        return path

    def best(self, step: int) -> Path:
        """Where the best checkpoint is."""
        return self.directory / f"{BEST_PREFIX}{step_name(step)}"

    def save_final(self, done: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
        """Write the checkpoint of the finished training."""
        shutil.rmtree(self.directory / FINAL, ignore_errors=True)  # of an earlier training in this directory
        return self._save_model(FINAL, done, model, tokenizer)

    def finish(self) -> None:
        """Remove the resumable checkpoints; the last ones stay if they were asked for by steps."""
        keep_newest(self.directory, 0 if self.every_steps is None else self.keep_last)

    def _save_model(self, name: str, done: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
        def fill(directory: Path) -> None:
            model.save_pretrained(directory)
            tokenizer.save_pretrained(directory)

        return write_checkpoint(self.directory / name, fill, self._facts(done))

    def _facts(self, done: int) -> dict[str, Any]:
        return {"step": done, "config_hash": self.config_hash}
