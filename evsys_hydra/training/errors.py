"""What can end a training besides a config or data error. Plain subclasses, so that each survives pickling."""

from __future__ import annotations

from ..errors import EvsysError
from ..record.arm import Cause


class TrainingDiverged(EvsysError):
    """The loss or the gradients are not finite. The text names the step and the last good checkpoint."""


class TrainingOutOfMemory(EvsysError):
    """Not even one example fits into the device's memory. The text says what to change."""


class CheckpointError(EvsysError):
    """A checkpoint that is not what its manifest says."""


class RankFailed(EvsysError):
    """One of an arm's processes failed. The text names it and its error; `arm_cause` is its cause."""

    def __init__(self, text: str, arm_cause: Cause = "user_error") -> None:
        super().__init__(text, arm_cause)
        self.arm_cause = arm_cause

    def __str__(self) -> str:
        return str(self.args[0])
