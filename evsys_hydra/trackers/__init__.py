"""Experiment trackers (TensorBoard, MLflow, W&B, Trackio) as mirrors of the arms' records.

    tracker=tensorboard        tracker=[tensorboard,mlflow]

Arms never talk to a tracker: a process beside the driver reads their files (`process`), from where it stopped, as the
store's sync does (`mirror`). So a tracker that is missing, slow or down is one warning, and what it did not take waits.
"""

from .protocol import ArmFacts, Point, TrackedRun, Tracker, TrackerError

__all__ = ["ArmFacts", "Point", "TrackedRun", "Tracker", "TrackerError"]
