"""The files of an experiment's directory: the truth from which everything else is derived."""

from .arm import ArmRecord, Cause, Role, State, array_task, is_running
from .experiment import ExperimentRecord
from .view import ArmView

__all__ = ["ArmRecord", "ArmView", "Cause", "ExperimentRecord", "Role", "State", "array_task", "is_running"]
