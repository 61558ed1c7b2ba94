"""The answers that an arm was trained on (predictions/rollouts.jsonl), sent as predictions of kind "rollout"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...record.arm import predictions_path
from .lines import lines_from

if TYPE_CHECKING:
    from .arm import ArmSync

Batch = list[tuple[str, dict[str, Any], int]]


def send_rollouts(arm: ArmSync, directory: Path) -> None:
    """Send the lines after those that the store has.

    Raises:
        StoreError: the store failed; what is left waits.
    """
    path, cursor = predictions_path(directory, "rollouts"), arm.cursor
    if not path.exists():
        return
    if path.stat().st_size < cursor.rollouts:  # a training of another config began the file anew
        cursor.rollouts, cursor.rollouts_ahead = 0, []
    batch: Batch = []
    for row, end in lines_from(path, cursor.rollouts):
        batch.append((_key(row), row, end))
        if len(batch) >= arm.sender.batch:
            _send(arm, batch)
            batch = []
    if batch:
        _send(arm, batch)


def _send(arm: ArmSync, batch: Batch) -> None:
    cursor = arm.cursor
    rows = {key: arm.prediction(key, row) for key, row, _ in batch if key not in cursor.rollouts_ahead}
    outcomes = arm.sender.predict(cursor, list(rows), list(rows.values())) if rows else []
    taken, failed = arm.taken(list(rows), outcomes, "rollout")
    if failed is None:
        cursor.rollouts, cursor.rollouts_ahead = batch[-1][2], []
    else:
        cursor.rollouts_ahead += sorted(taken)
    cursor.save()
    if failed is not None:
        raise failed


def _key(row: Mapping[str, Any]) -> str:
    training = (row.get("metadata") or {}).get("training")
    return f"rollout/{training}/{row.get('step')}/{row.get('task_id')}/{row.get('sample_idx') or 0}"
