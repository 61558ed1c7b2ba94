"""The contract's operations as the server offers them: found by name, arguments checked, projects kept apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid5

import orjson
from pydantic import ConfigDict, ValidationError, validate_call

from ..store.errors import BadRequest, NotAllowed
from ..store.sqlite.store import SqlStore
from .keys import Member

NAMES = (
    "create_project",
    "get_project",
    "delete_project",
    "set_goal",
    "list_goals",
    "current_goal",
    "create_experiment",
    "get_experiment",
    "update_experiment",
    "delete_experiment",
    "list_experiments",
    "experiment_summaries",
    "experiment_detail",
    "create_group",
    "list_groups",
    "create_run",
    "get_run",
    "update_run",
    "list_runs",
    "create_dataset",
    "create_benchmark",
    "add_dataset_rows",
    "add_benchmark_rows",
    "get_dataset",
    "get_dataset_rows",
    "get_benchmark",
    "get_benchmark_rows",
    "list_datasets",
    "list_benchmarks",
    "add_checkpoint",
    "list_checkpoints",
    "create_eval",
    "list_evals",
    "add_prediction",
    "list_predictions",
    "log_metric",
    "log_metrics",
    "get_metrics",
)
RECORDS = UUID("6f1d4c0e-6f0c-4f0e-9d0a-6a6f1b7c2f11")
BELONGS_TO = ("project_id", "experiment_id", "run_id", "eval_id")
STATUSES = ("pending", "running", "completed", "failed", "cancelled")


class Offered:
    """Performs operations on a store for members.

    Args:
        store: the store behind the server.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._calls: dict[str, Callable[..., Any]] = {}
        self._in_project: set[str] = set()
        self._makes: set[str] = set()
        checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))
        for name in NAMES:
            method = getattr(store, name)
            self._calls[name] = checked(method)
            parameters = inspect.signature(method).parameters
            if "project_id" in parameters:
                self._in_project.add(name)
            if "id" in parameters:
                self._makes.add(name)

    def perform(self, op: object, args: object, member: Member, once: str | None = None) -> Any:
        """The result of an operation.

        Args:
            once: the same in each try of making one record; a `record_id` of the client's goes before it.

        Raises:
            BadRequest: no such operation, or not its arguments.
            NotAllowed: not the member's project.
            StoreError: as the store says.
        """
        if not isinstance(op, str) or op not in self._calls:
            raise BadRequest(f"unknown op {str(op)[:80]!r}")
        if not isinstance(args, dict):
            raise BadRequest(f"{op}: args must be an object")
        if "id" in args:  # ids of their own would let clients meet other projects' records
            raise BadRequest(f"{op}: unknown argument 'id'")
        status = (args.get("patch") or {}).get("status") if isinstance(args.get("patch"), dict) else None
        if status is not None and status not in STATUSES:
            raise BadRequest(f"{op}: status must be one of {', '.join(STATUSES)}")
        if not isinstance(args.get("project_id"), str | None):
            raise BadRequest(f"{op}: project_id must be a string")
        args = self._within(op, args, member)
        if op in self._makes and (id := _id_of(op, args, once)) is not None:
            args = {**args, "id": id}
        try:
            return self._calls[op](**args)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
            raise BadRequest(f"{op}: {problems}") from None
        except (orjson.JSONEncodeError, OverflowError) as error:  # nested too deeply, a step of 2**63
            raise BadRequest(f"{op}: cannot be stored: {error}") from None

    def _within(self, op: str, args: dict[str, Any], member: Member) -> dict[str, Any]:
        """The arguments, with the project filled in.

        Raises:
            NotAllowed: the operation leaves the member's projects.
        """
        if member.projects is None:
            return args
        if op == "create_project":
            raise NotAllowed("this key is bound to its projects and cannot make another")
        if op in self._in_project and not args.get("project_id"):
            if len(member.projects) != 1:
                raise BadRequest(f"{op}: project_id is needed, because this key is for several projects")
            args = {**args, "project_id": next(iter(member.projects))}
        if op == "list_runs" and not (args.get("experiment_id") or args.get("group_id")):
            raise BadRequest("list_runs: experiment_id or group_id is needed")
        for project in self._projects_of(args):
            if project not in member.projects:
                raise NotAllowed("not a member of this project")
        return args

    def _projects_of(self, args: Mapping[str, Any]) -> list[str | None]:
        named = [args["project_id"]] if args.get("project_id") else []
        patch = args.get("patch")
        given = [*args.items(), *(patch.items() if isinstance(patch, dict) else ())]
        found = (self._store.project_of(key, str(value)) for key, value in given if key.endswith("_id"))
        return [*named, *(project for known, project in found if known)]


def _id_of(op: str, args: Mapping[str, Any], once: str | None) -> str | None:
    """The id of a record that a client may ask for again, though the first request is still on its way; else None.

    What the record belongs to is in it, so that no client meets a record of a project that is not theirs.
    """
    metadata = args.get("metadata")
    holder = metadata if op == "add_prediction" and isinstance(metadata, dict) else args
    named = holder.get("record_id")
    name = named if isinstance(named, str) and named else once
    if not name:
        return None
    return uuid5(RECORDS, repr((op, *(args.get(key) for key in BELONGS_TO), name))).hex
