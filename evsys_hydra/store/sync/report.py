"""What a sync did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SyncReport:
    """Records are lines of the arms' files: a step's metrics, a checkpoint, an eval, a prediction, a status."""

    sent: int = 0
    """Records that the store acknowledged this time."""
    waiting: int = 0
    """Records that are on disk and not in the store yet; they go with the next sync."""
    error: str | None = None
    """Why records wait; None if none do."""
    refused: list[str] = field(default_factory=list)
    """Records that the store will not take as they are, this time: "<arm> <record>: <why>". They stay on disk."""

    def __str__(self) -> str:
        text = f"{self.sent} records sent"
        if self.waiting:
            text += f", {self.waiting} wait on disk"
        if self.refused:
            text += f", {len(self.refused)} refused ({self.refused[0]})"
        return f"{text}: {self.error}" if self.error else f"{text}."
