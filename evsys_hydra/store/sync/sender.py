"""One way to send, whatever the store can do: with our ids, in bulk, or one record a call.

Nothing is sent twice: a store that takes ids ignores a repeated one; for the others the keys are written down as an
intent first, and records of an intent that was not crossed out are looked for in the store before they are sent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...errors import StoreError
from ..errors import BadRequest
from ..protocol import EvsysStore, MetricPoint, Record
from .cursor import Cursor

UNCOUNTED = ("create_group", "create_benchmark", "create_dataset")  # what records belong to, no records themselves


class Sender:
    """Sends the records of one experiment.

    Args:
        store: anything with EvsysStore's operations; BulkStore's are used if it has them.
        experiment_id: the record's id; ids in the store are derived from it.
        budget_s: stop sending after this many seconds; None: never.
    """

    def __init__(self, store: EvsysStore, experiment_id: str, *, budget_s: float | None = None) -> None:
        self.store = store
        self.takes_ids = bool(getattr(store, "takes_ids", False))
        self.batch = int(getattr(store, "batch", 1))
        self.sent = 0
        self.refused: list[str] = []
        self._namespace = namespace(experiment_id)
        self._budget_s = budget_s
        self._deadline = time.monotonic() + budget_s if budget_s is not None else None

    def id(self, *parts: str) -> str:
        """The id of a record, always the same for the same record."""
        return uuid.uuid5(self._namespace, "\n".join(parts)).hex

    @property
    def over(self) -> str | None:
        """That the budget is used up, in words; None while it is not."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return None
        return f"the {self._budget_s:g} s for sending were over"

    def check_time(self) -> None:
        """Raises StoreError once the budget is used up."""
        if self.over:
            raise StoreError(self.over)

    @contextmanager
    def limited(self) -> Iterator[None]:
        """While it sends, a store that can be told gives up its calls when the budget ends."""
        if hasattr(self.store, "deadline"):
            self.store.deadline = self._deadline
        try:
            yield
        finally:
            if hasattr(self.store, "deadline"):
                self.store.deadline = None

    def call(self, op: str, /, **args: Any) -> Any:
        """An operation that may be repeated freely."""
        self.check_time()
        try:
            return getattr(self.store, op)(**args)
        except StoreError:
            raise
        except Exception as error:  # a store of the user's own: its bugs are not the driver's
            raise StoreError(f"{op}: {type(error).__name__}: {error}") from error

    def make(self, op: str, cursor: Cursor, key: str, args: dict[str, Any], *, id: str, known: Sequence[str]) -> str:
        """Make one record and give its id in the store; the caller saves the cursor with it.

        Args:
            key: names the record in the cursor's intent.
            id: for stores that take ids.
            known: ids of such records that are others.
        """
        if self.takes_ids:
            args = {**args, "id": id}
        else:
            found = self._found(op, cursor, [key], [args], known)
            if found[0] is not None:
                return self._done(cursor, op, found[0])
            cursor.intent = [key]
            cursor.save()
        return self._done(cursor, op, self.call(op, **args))

    def log(
        self, cursor: Cursor, run: str, keys: Sequence[str], points: Sequence[MetricPoint]
    ) -> list[StoreError | None]:
        """Send the metrics of several steps; an outcome for each."""

        def send(places: Sequence[int]) -> list[StoreError | None]:
            chosen = [points[place] for place in places]
            if hasattr(self.store, "log_many"):
                return list(self.call("log_many", run_id=run, points=chosen))
            return self._one_by_one(
                "log_metrics",
                [{"run_id": run, "step": p.step, "metrics": dict(p.metrics), "split": p.split} for p in chosen],
            )

        wanted = [{"run_id": run, "step": p.step, "metrics": p.metrics, "split": p.split} for p in points]
        return self._many("log_metrics", cursor, keys, wanted, (), send)

    def predict(self, cursor: Cursor, keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[StoreError | None]:
        """Send several predictions; an outcome for each."""

        def send(places: Sequence[int]) -> list[StoreError | None]:
            chosen = [rows[place] for place in places]
            if self.takes_ids:
                chosen = [{**row, "id": row["metadata"]["record_id"]} for row in chosen]
            if hasattr(self.store, "add_predictions"):
                return list(self.call("add_predictions", rows=chosen))
            return self._one_by_one("add_prediction", chosen)

        return self._many("add_prediction", cursor, keys, rows, (), send)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _many(
        self,
        op: str,
        cursor: Cursor,
        keys: Sequence[str],
        wanted: Sequence[Mapping[str, Any]],
        known: Sequence[str],
        send: Any,
    ) -> list[StoreError | None]:
        found: Sequence[Record | None] = [None] * len(keys)
        if not self.takes_ids:
            found = self._found(op, cursor, keys, wanted, known)
            cursor.intent = list(keys)
            cursor.save()
        places = [place for place, record in enumerate(found) if record is None]
        results: list[StoreError | None] = [None] * len(keys)
        for place, outcome in zip(places, self._sent(send, places), strict=True):
            results[place] = outcome
        self.sent += sum(outcome is None for outcome in results)
        cursor.intent = [key for key, outcome in zip(keys, results, strict=True) if outcome is not None]
        return results

    def _sent(self, send: Any, places: Sequence[int]) -> list[StoreError | None]:
        """The outcomes; a bulk that is refused as a whole is sent in halves, to find the record at fault."""
        if not places:
            return []
        try:
            return list(send(places))
        except BadRequest as error:
            if len(places) == 1:
                return [error]
            half = len(places) // 2
            return [*self._sent(send, places[:half]), *self._sent(send, places[half:])]
        except StoreError as error:
            return [error] * len(places)

    def _one_by_one(self, op: str, many: Sequence[Mapping[str, Any]]) -> list[StoreError | None]:
        results: list[StoreError | None] = []
        for args in many:
            try:
                if results and results[-1] is not None and not isinstance(results[-1], BadRequest):
                    raise results[-1]
                self.call(op, **args)
                results.append(None)
            except StoreError as error:
                results.append(error)
        return results

    def _found(
        self,
        op: str,
        cursor: Cursor,
        keys: Sequence[str],
        wanted: Sequence[Mapping[str, Any]],
        known: Sequence[str],
    ) -> list[Record | None]:
        """Of the records of an intent, those that the store has after all."""
        places = [place for place, key in enumerate(keys) if key in cursor.intent]
        found: list[Record | None] = [None] * len(keys)
        if places and hasattr(self.store, "find"):
            records = self.call("find", op=op, wanted=[wanted[place] for place in places], known=frozenset(known))
            for place, record in zip(places, records, strict=True):
                found[place] = record
        return found

    def _done(self, cursor: Cursor, op: str, record: Any) -> str:
        if not isinstance(record, Mapping) or not record.get("id"):
            raise StoreError(f"{op}: the store answered without the id of what it made")
        cursor.intent = []
        self.sent += op not in UNCOUNTED
        return str(record["id"])

    def refuse(self, arm: str, what: str, error: StoreError) -> None:
        """Note a record that the store will not take."""
        self.refused.append(f"{arm} {what}: {error}")


def namespace(experiment_id: str) -> uuid.UUID:
    """The uuid that an experiment's ids are derived from."""
    try:
        return uuid.UUID(experiment_id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"evsys_hydra:{experiment_id}")
