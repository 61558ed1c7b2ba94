"""One arm's record to its run in the store: created, its events in order, its outcome last."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ...record import ArmView
from ..errors import BadRequest, Unclear
from ..protocol import MetricPoint
from . import fields
from .cursor import ArmCursor
from .lines import lines_from
from .reading import current_rows, event_key, latest_evals, predictions_of, signature
from .rollouts import send_rollouts
from .sender import Sender
from .sources import Sources

MOST_REFUSED = 20


@dataclass
class ArmSync:
    """Sends what the store does not have of one arm.

    Args:
        view: the arm as it is now.
        cursor: what the store has.
        sender: sends.
        experiment: the experiment's id in the store.
        live: the sweep goes on: an arm is what it said last, even if its process cannot be seen from here.
    """

    view: ArmView
    cursor: ArmCursor
    sender: Sender
    experiment: str
    live: bool = False
    _refused: int = 0

    @property
    def directory(self) -> Path:
        return self.view.directory

    @property
    def state(self) -> str:
        """pending, running, completed or failed."""
        if self.live and self.view.status.get("state") == "running" and not self.view.exit:
            return "running"
        return self.view.state

    def send(self, group: str | None, sources: Sources) -> None:
        """Everything that is there now.

        Args:
            group: id of the arm's group in the store, if it has one.
            sources: give the ids in the store of benchmarks and datasets.

        Raises:
            StoreError: the store failed; what is left waits.
        """
        seen = signature(self.directory)
        if self._nothing_new(seen, group):
            return
        state = self.state
        if state == "pending" and not (self.directory / "events.jsonl").exists():
            return
        if self.cursor.run is None:
            self._create(group, sources)
        if state != self.cursor.sent.get("status") and state == "running":
            self._tell({"status": "running", "error_message": ""})
        if group != self.cursor.sent.get("group_id"):
            self._tell({"group_id": group})
        if self.cursor.eval:
            self._predictions()
        self._events(sources)
        send_rollouts(self, self.directory)
        if state in ("completed", "failed"):
            self._finish(state)
        self.cursor.seen = seen if state in ("completed", "failed") else ""
        self.cursor.save()

    def _nothing_new(self, seen: str, group: str | None) -> bool:
        return bool(self.cursor.seen) and self.cursor.seen == seen and self.cursor.sent.get("group_id") == group

    def _create(self, group: str | None, sources: Sources) -> None:
        args = fields.run_fields(self.view, self._config(), self._id("run"))
        args["experiment_id"] = self.experiment
        if group is not None:
            args["group_id"] = group
        trained = next(lines_from(self.directory / "events.jsonl", 0, b'"provenance"'), None)
        dataset = sources.dataset(trained[0], self.directory) if trained is not None else None
        if dataset is not None:
            args["dataset_id"] = dataset
        self.cursor.run = self.sender.make("create_run", self.cursor, "run", args, id=self._id("run"), known=())
        self.cursor.sent = {"status": "running", "group_id": group, "dataset_id": dataset}
        self.cursor.save()

    def _finish(self, state: str) -> None:
        metric = (self._config().get("metadata") or {}).get("success_metric")
        secrets = fields.secrets_named_in(self.directory / "config.yaml")
        patch = fields.outcome_fields(self.view, state, secrets, metric)
        patch.setdefault("error_message", "")
        self._tell(patch)

    def _tell(self, patch: dict[str, Any]) -> None:
        """Patch those fields of the run that the store was told otherwise."""
        known = {"error_message": "", **self.cursor.sent}
        changed = {key: value for key, value in patch.items() if known.get(key) != value}
        if changed:
            self.sender.call("update_run", run_id=self.cursor.run, patch=changed)
            self.sender.sent += 1
            self.cursor.sent.update(changed)
            self.cursor.save()

    # -- events ----------------------------------------------------------------------------------------------------

    def _events(self, sources: Sources) -> None:
        path = self.directory / "events.jsonl"
        latest = latest_evals(self.directory, self.cursor.offset)
        batch: list[tuple[str, MetricPoint, int]] = []
        for event, end in lines_from(path, self.cursor.offset):
            point = fields.metric_point(event) if event.get("kind") == "metrics" else None
            if point is not None:
                batch.append((event_key(event, end), point, end))
                if len(batch) >= self.sender.batch:
                    self._metrics(batch)
                    batch = []
                continue
            if event.get("kind") in ("provenance", "checkpoint", "eval"):
                self._metrics(batch)
                batch = []
                self._fact(event, end, sources, latest)
            elif not batch:
                self.cursor.offset = end
        self._metrics(batch)

    def _metrics(self, batch: list[tuple[str, MetricPoint, int]]) -> None:
        """Send the metrics of some steps; the offset moves to the first one that the store did not take."""
        done = set(self.cursor.ahead)
        todo = [(key, point) for key, point, _ in batch if key not in done]
        if not batch:
            return
        keys = [key for key, _ in todo]
        outcomes = self.sender.log(self.cursor, self._run, keys, [point for _, point in todo]) if todo else []
        taken, failed = self.taken(keys, outcomes, "metrics")
        done |= taken
        for place, (key, _, end) in enumerate(batch):
            if key not in done:
                self.cursor.ahead = [later for later, _, _ in batch[place:] if later in done]
                break
            self.cursor.offset = end
        else:
            self.cursor.ahead = []
        self.cursor.save()
        if failed is not None:
            raise failed
        self._stop_if_refused()

    def taken(
        self, keys: Sequence[str], outcomes: Sequence[StoreError | None], what: str
    ) -> tuple[set[str], StoreError | None]:
        """The records that are done with, refused ones included, and the failure of the store if there was one."""
        taken, failed = set(), None
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, BadRequest):
                self._refuse(f"{what} {key}", outcome)
            elif outcome is not None:
                failed = outcome
                continue
            taken.add(key)
        return taken, failed

    def _fact(self, event: dict[str, Any], end: int, sources: Sources, latest: Mapping[str, str]) -> None:
        key = event_key(event, end)
        what = f"{event['kind']} {event.get('name') or event.get('uri')}"
        try:
            if event["kind"] == "provenance":
                self._dataset(event, sources)
            elif event["kind"] == "checkpoint":
                self._checkpoint(key, event)
            elif key not in self.cursor.evals:
                self._eval(key, event, sources, latest)
        except BadRequest as error:
            self._refuse(what, error)
        self.cursor.offset, self.cursor.ahead = end, []
        self.cursor.save()
        self._stop_if_refused()
        if self.cursor.eval:
            self._predictions()

    def _dataset(self, event: dict[str, Any], sources: Sources) -> None:
        """Tell what the run was trained on, where that was not known when it was made."""
        dataset = sources.dataset(event, self.directory)
        if dataset is not None and self.cursor.sent.get("dataset_id") != dataset:
            with contextlib.suppress(BadRequest, Unclear):  # a store may have it fixed: the run goes without
                self.sender.call("update_run", run_id=self._run, patch={"dataset_id": dataset})
            self.cursor.sent["dataset_id"] = dataset

    def _checkpoint(self, key: str, event: dict[str, Any]) -> None:
        args = {"run_id": self._run, **fields.checkpoint_fields(event, self.directory, self._config())}
        known = list(self.cursor.checkpoints.values())
        made = self.sender.make("add_checkpoint", self.cursor, key, args, id=self._id(key), known=known)
        self.cursor.checkpoints[key] = made
        self.cursor.checkpoint = {"id": made, "uri": args["uri"]}

    def _eval(self, key: str, event: dict[str, Any], sources: Sources, latest: Mapping[str, str]) -> None:
        args = {"run_id": self._run, **fields.eval_fields(event, self.view.name, self.cursor.checkpoint)}
        benchmark = sources.benchmark(event, self.directory)
        if benchmark is not None:
            args["benchmark_id"] = benchmark
        known = list(self.cursor.evals.values())
        made = self.sender.make("create_eval", self.cursor, key, args, id=self._id(key), known=known)
        self.cursor.evals[key] = made
        file = predictions_of(self.directory, event)
        if file is not None and latest.get(file, key) == key:
            self.cursor.eval = {"key": key, "id": made, "file": file, "row": 0}

    # -- predictions -----------------------------------------------------------------------------------------------

    def _predictions(self) -> None:
        """Send the rows of the current eval, from where it stopped. Of several rows of a sample the last counts."""
        current = self.cursor.eval
        batch: list[tuple[int, dict[str, Any]]] = []
        for place, row in current_rows(self.directory / current["file"], current["row"]):
            batch.append((place, row))
            if len(batch) >= self.sender.batch:
                self._predict(batch)
                batch = []
        self._predict(batch)
        self.cursor.eval, self.cursor.ahead = {}, []
        self.cursor.save()

    def _predict(self, batch: list[tuple[int, dict[str, Any]]]) -> None:
        current, done = self.cursor.eval, set(self.cursor.ahead)
        todo = {}
        for _, row in batch:
            key = f"{current['key']}/{row.get('task_id')}/{row.get('sample_idx') or 0}"
            if key not in done:
                todo[key] = self.prediction(key, row, current["id"])
        if not batch:
            return
        outcomes = self.sender.predict(self.cursor, list(todo), list(todo.values())) if todo else []
        taken, failed = self.taken(list(todo), outcomes, "prediction")
        if failed is None:
            current["row"], self.cursor.ahead = batch[-1][0] + 1, []
        else:
            self.cursor.ahead += sorted(taken)
        self.cursor.save()
        if failed is not None:
            raise failed
        self._stop_if_refused()

    def prediction(self, key: str, row: Mapping[str, Any], eval_id: str | None = None) -> dict[str, Any]:
        """add_prediction's arguments for a row of a file of predictions."""
        return fields.prediction_fields(row, self._run, eval_id, self._id(key))

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _run(self) -> str:
        assert self.cursor.run is not None
        return self.cursor.run

    def _refuse(self, what: str, error: StoreError) -> None:
        self._refused += 1
        self.sender.refuse(self.view.name, what, error)

    def _stop_if_refused(self) -> None:
        """Leave this arm for now: so many refusals are hardly single records' fault, and each costs a request."""
        if self._refused >= MOST_REFUSED:
            raise BadRequest(f"the store refused {self._refused} of its records; the rest waits for another sync")

    def _id(self, key: str) -> str:
        return self.sender.id(self.directory.name, key)

    def _config(self) -> dict[str, Any]:
        return fields.read_config(self.directory / "config.yaml")
