"""What can end a training besides a config or data error. Plain subclasses, so that each survives pickling."""

from __future__ import annotations

from ..errors import EvsysError


class TrainingDiverged(EvsysError):
    """The loss or the gradients are not finite. The text names the step and the last good checkpoint."""


class TrainingOutOfMemory(EvsysError):
    """Not even one example fits into the device's memory. The text says what to change."""


class CheckpointError(EvsysError):
    """A checkpoint that is not what its manifest says."""
