"""What a stage starts from: the final weights of the stage before, never the base model by accident.

Whole weights take the model's place, so that adapters trained on them lie over them in training and evaluation alike.
Adapters are trained on if the stage has the same `model.lora`, else they are merged first (STAGE_START).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .composed import load_plain, typed_config
from .config import ExperimentConfig, ModelConfig
from .errors import EvsysError
from .models import ADAPTER_CONFIG, merge_adapters
from .record import ArmView
from .record.files import read_json

STAGE_START = Path("checkpoints") / "start"


class StartMissing(EvsysError):
    """A stage has no weights to start from."""


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Args:
        model: the model that is loaded.
        checkpoint: what training starts from, if it is not the model itself.
        how: for the record: "model", "weights", "adapters" (trained on) or "merged"; "state" for what is no model.
    """

    model: ModelConfig
    checkpoint: Path | None = None
    how: str = "model"


def start_of(config: ExperimentConfig, directory: Path) -> Start:
    """Where the arm of a directory starts.

    Raises:
        StartMissing: the stage before has not completed, left no checkpoint, or the checkpoint is gone.
    """
    if config.start_from is None:
        return Start(config.model)
    before = directory_of(config, directory)
    checkpoint = final_checkpoint(before)
    if (checkpoint / ADAPTER_CONFIG).is_file():
        return _from_adapters(config, directory, before, checkpoint)
    if (checkpoint / "config.json").is_file():
        return Start(_named(config.model, checkpoint), checkpoint, "weights")
    return Start(config.model, checkpoint, "state")


def directory_of(config: ExperimentConfig, directory: Path) -> Path:
    """The directory of the stage before; `directory` is the arm's or that of one of its ranks."""
    assert config.start_from is not None
    name, elsewhere = config.start_from.arm, config.start_from.experiment
    if elsewhere is not None:
        return Path(elsewhere) / "arms" / name
    beside = (parent / name for parent in directory.resolve().parents)
    return next((path for path in beside if (path / "arm.json").is_file()), directory.parent / name)


def final_checkpoint(arm: Path) -> Path:
    """The weights that a completed arm left.

    Raises:
        StartMissing
    """
    view = ArmView(arm)
    if view.state != "completed":
        why = f": {view.error}" if view.error else ""
        raise StartMissing(
            f"stage {arm.name}, from which this one starts, is not completed but {view.state}{why}. "
            f"Run it first: evsys-hydra resume {arm.parent.parent}"
        )
    kept = (read_json(arm / "trained.json") or {}).get("artifacts") or view.result.get("artifacts") or {}
    if "checkpoint" not in kept:
        raise StartMissing(
            f"stage {arm.name} left no checkpoint to start from. Its algorithm must return "
            'RunResult(artifacts={"checkpoint": path}); a stage never starts from the base model instead.'
        )
    checkpoint = arm / str(kept["checkpoint"])  # an absolute path stays what it is
    if not checkpoint.exists():
        raise StartMissing(f"the checkpoint of stage {arm.name} is gone: {checkpoint}. Run that stage again.")
    return checkpoint.resolve()


def _from_adapters(config: ExperimentConfig, directory: Path, before: Path, checkpoint: Path) -> Start:
    earlier = typed_config(load_plain(before / "config.yaml"))
    under = start_of(earlier, before).model
    if config.model.lora == earlier.model.lora:
        same = {"name": under.name, "revision": under.revision, "gguf_file": under.gguf_file}
        return Start(config.model.model_copy(update=same), checkpoint, "adapters")
    merged = (directory / STAGE_START).resolve()
    if not (merged / "manifest.json").is_file():
        from .training.checkpoint import write_checkpoint

        write_checkpoint(merged, lambda empty: _merge(under, checkpoint, empty, config.model.processes))
    return Start(_named(config.model, merged), merged, "merged")


def _merge(model: ModelConfig, checkpoint: Path, out: Path, processes: int) -> None:
    if processes == 1:
        merge_adapters(model, checkpoint, out)
    else:  # a process that has used a GPU can start none that does
        from .training.processes import apart

        apart(merge_adapters, model, checkpoint, out)


def _named(model: ModelConfig, checkpoint: Path) -> ModelConfig:
    return model.model_copy(update={"name": str(checkpoint), "revision": None, "gguf_file": None})
