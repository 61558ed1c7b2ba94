"""A whole experiment to a store: created, its groups, each arm, its conclusion last; and the index made anew."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ...record import ArmView, ExperimentRecord
from ...record.files import read_json, to_json
from ..errors import BadRequest, Unclear, UnknownId
from ..none import NoneStore
from ..protocol import EvsysStore
from . import fields
from .arm import ArmSync
from .cursor import LOCK_WAIT_S, ArmCursor, ExperimentCursor, folder, locked
from .reading import views_of
from .report import SyncReport
from .sender import Sender
from .sources import Sources
from .waiting import waiting_records


def sync(
    directory: Path, store: EvsysStore, *, live: bool = False, budget_s: float | None = None, count: bool = True
) -> SyncReport:
    """Send what the store does not have yet of the experiment in `directory`.

    May be called at any time, by anybody, as often as one likes; killed at any point, it goes on where it was.

    Args:
        live: the sweep is running: no conclusion is sent, and an arm is what it said last.
        budget_s: stop after about this many seconds; None: never.
        count: whether to count what waits if not everything was sent.

    Raises:
        RecordError: there is no experiment in `directory`.
    """
    record = ExperimentRecord.load(directory)
    if isinstance(store, NoneStore):
        return SyncReport()
    where = folder(directory, store_id(store))
    sender = Sender(store, record.id, budget_s=budget_s)
    error: Exception | None = None
    try:
        with locked(where, wait_s=0 if live else LOCK_WAIT_S), sender.limited():
            error = _Experiment(record, where, sender, live).send()
    except (StoreError, OSError) as problem:
        error = problem
    report = SyncReport(sender.sent, 0, None, sender.refused)
    if error is None:
        return report
    waiting = waiting_records(record, where, live=live) if count else 0
    hint = f" If it was deleted there, delete {where} to send it again." if isinstance(error, UnknownId) else ""
    over = f"{sender.over}: " if sender.over and str(error) != sender.over else ""
    return replace(report, waiting=waiting, error=f"{over}{error}{hint}")


def rebuild(store: EvsysStore, directories: Iterable[Path]) -> list[SyncReport]:
    """Make the store's records of these experiments again from their directories.

    Raises:
        StoreError: not a store that can be rebuilt: it makes its own ids, so the old records would stay beside.
        RecordError: there is no experiment in a directory.
    """
    if not getattr(store, "takes_ids", False):
        raise StoreError(f"{store!r} cannot be rebuilt from directories; the local store can (store=local).")
    reports = []
    for directory in directories:
        record = ExperimentRecord.load(directory)
        where = folder(directory, store_id(store))
        with locked(where):
            store.delete_experiment(record.id)
            for path in where.glob("*.json"):
                path.unlink()
            shutil.rmtree(where / "arms", ignore_errors=True)
        reports.append(sync(directory, store))
    return reports


def store_id(store: EvsysStore) -> str:
    """The name under which it is remembered what a store has."""
    return str(getattr(store, "store_id", f"own-{type(store).__name__}"))


@dataclass
class _Experiment:
    record: ExperimentRecord
    where: Path
    sender: Sender
    live: bool

    def send(self) -> StoreError | None:
        """Send everything; an arm that the store refuses does not hold up the others.

        Returns:
            The first such refusal.

        Raises:
            StoreError: the store failed.
        """
        durable = not self.sender.takes_ids
        self.cursor = ExperimentCursor.load(self.where / "experiment.json", durable=durable)
        (self.where / "arms").mkdir(exist_ok=True)
        self._create()
        views = views_of(self.record, self.live)
        self._groups(views)
        sources = Sources(self.cursor, self.sender)
        refused: StoreError | None = None
        for view in views:
            cursor = ArmCursor.load(self.where / "arms" / f"{view.directory.name}.json", durable=durable)
            arm = ArmSync(view, cursor, self.sender, self._id, self.live)
            try:
                arm.send(self.cursor.groups.get(view.group), sources)
            except (BadRequest, UnknownId) as error:
                refused = refused or type(error)(f"{view.name}: {error}")
        self._conclude()
        return refused

    @property
    def _id(self) -> str:
        assert self.cursor.experiment is not None
        return self.cursor.experiment

    def _secrets(self) -> list[str]:
        names = self.record.arm_names[:1]
        return [
            secret
            for name in names
            for secret in fields.secrets_named_in(self.record.arm_directory(name) / "config.yaml")
        ]

    def _create(self) -> None:
        if self.cursor.experiment is not None:
            return
        args = fields.experiment_fields(self.record.facts, self._secrets())
        made = self.sender.make("create_experiment", self.cursor, "experiment", args, id=self.record.id, known=())
        self.cursor.experiment, self.cursor.sent = made, {"status": "running"}
        self.cursor.save()

    def _groups(self, views: list[ArmView]) -> None:
        """Groups are made once there are replicates."""
        sizes = Counter(view.group for view in views)
        if max(sizes.values(), default=0) < 2:
            return
        for name in sizes:
            if name not in self.cursor.groups:
                args = {"experiment_id": self._id, "name": name}
                known = list(self.cursor.groups.values())
                id = self.sender.id("group", name)
                made = self.sender.make("create_group", self.cursor, f"group {name}", args, id=id, known=known)
                self.cursor.groups[name] = made
                self.cursor.save()

    def _conclude(self) -> None:
        """Tell the experiment's state; its conclusion, unless arms have run again since it was written."""
        concluded = read_json(self.record.directory / "conclusion.json")
        patch: dict[str, Any] = {"status": "running"}
        if isinstance(concluded, dict) and concluded.get("generation") == self.record.facts.get("generation"):
            patch = {"status": concluded.get("status"), "conclusion": concluded.get("conclusion")}
            if concluded.get("best_score") is not None:
                patch["best_score"] = concluded["best_score"]
        if self.live and patch["status"] != "running":
            return
        changed = {key: value for key, value in patch.items() if self.cursor.sent.get(key) != value}
        if changed:
            self.sender.call("update_experiment", experiment_id=self._id, patch=changed)
            self.sender.sent += 1
            self.cursor.sent.update(changed)
            self.cursor.save()
        if patch["status"] != "running":
            self._rank(fields.ranking_fields(concluded or {}))

    def _rank(self, patch: dict[str, Any]) -> None:
        """Tell how the groups stand, for the dashboard's plots: a store that knows no such field goes without."""
        mark = hashlib.sha256(to_json(patch)).hexdigest() if patch else None
        if mark is None or self.cursor.sent.get("ranking") == mark:
            return
        with contextlib.suppress(BadRequest, Unclear):
            self.sender.call("update_experiment", experiment_id=self._id, patch=patch)
        self.cursor.sent["ranking"] = mark
        self.cursor.save()
