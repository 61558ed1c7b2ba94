"""The `none` store: records stay in the experiment's directory and go nowhere else."""

from __future__ import annotations

from typing import Any, Literal
from uuid import uuid4

from ..config import KindConfig
from ..registry import register_store
from .operations import Operations
from .protocol import EvsysStore


class NoneStoreConfig(KindConfig):
    """No store: the experiment's directory is the only record."""

    kind: Literal["none"] = "none"


class NoneStore(Operations):
    """Takes every record, keeps none. The sync does not even read the records for it."""

    def _do(self, op: str, args: dict[str, Any]) -> Any:
        if op.startswith(("create_", "add_checkpoint", "add_prediction", "set_goal")):
            return {"id": uuid4().hex, **args}
        if op.startswith("update_"):
            return {"id": args["experiment_id" if op == "update_experiment" else "run_id"], **args["patch"]}
        if op == "experiment_detail":
            return {"experiment": {"id": args["experiment_id"]}, "groups": []}
        return None

    def __repr__(self) -> str:
        return "NoneStore()"

    def close(self) -> None:
        """Nothing to close."""


@register_store("none", config=NoneStoreConfig)
def open_none(config: NoneStoreConfig) -> EvsysStore:
    """A store that keeps nothing."""
    return NoneStore()
