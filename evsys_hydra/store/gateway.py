"""The `gateway` store: records go to an EvSys dashboard, the hosted one or ours, over HTTP.

One pool of connections; many records at once; what fails is repeated with growing pauses as long as repeating cannot
make a second record. The key comes from EVSYS_API_KEY or an argument, never from a config file.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from ..config import KindConfig
from ..errors import StoreError
from ..registry import register_store
from .errors import Unclear, Unreachable
from .operations import Operations
from .parallel import outcomes
from .protocol import BulkStore, MetricPoint, Record
from .recall import can_recall, recall
from .wire import Wire

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
MAKES_RECORDS = ("create_", "add_prediction", "add_checkpoint", "set_goal", "log_metric")


class GatewayStoreConfig(KindConfig):
    """Records go to an EvSys dashboard. The key is read from EVSYS_API_KEY."""

    kind: Literal["gateway"] = "gateway"
    url: str | None = None
    """The dashboard's address; null: EVSYS_API_URL, else http://localhost:8000."""
    project_id: str | None = None
    """Project that experiments belong to; null: EVSYS_PROJECT_ID, else none."""
    timeout_s: float = Field(10.0, gt=0)
    """Longest time of one request, in seconds."""
    budget_s: float = Field(20.0, gt=0)
    """Longest time of one record with all repetitions, in seconds; it waits on disk after that."""
    concurrency: int = Field(8, ge=1, le=64)
    """How many requests at a time, where the gateway takes one record a request."""


class GatewayStore(Operations):
    """Every operation of EvsysStore as a POST to a dashboard.

    Args:
        url: the dashboard's address; None: EVSYS_API_URL, else http://localhost:8000.
        api_key: None: EVSYS_API_KEY.
        project_id: None: EVSYS_PROJECT_ID, else no project.
        timeout_s, budget_s, concurrency: see GatewayStoreConfig.

    Raises:
        StoreError: there is no key, or an address or key that cannot be used.
    """

    takes_ids = False
    batch = 64

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        project_id: str | None = None,
        *,
        timeout_s: float = 10.0,
        budget_s: float = 20.0,
        concurrency: int = 8,
    ) -> None:
        super().__init__(project_id or os.environ.get("EVSYS_PROJECT_ID") or None)
        key = api_key or os.environ.get("EVSYS_API_KEY")
        if not key:
            raise StoreError("The gateway store needs a key: set EVSYS_API_KEY, or choose store=local.")
        base = url or os.environ.get("EVSYS_API_URL") or "http://localhost:8000"
        self._wire = Wire(base, key, timeout_s=timeout_s, connections=concurrency)
        self._budget_s = budget_s
        self.deadline: float | None = None
        """Time on the monotonic clock after which no call goes on; set by a sync that has a budget."""
        self._concurrency = concurrency
        self._made: set[str] = set()
        place = f"{self._wire.shown}\n{self.project_id or ''}"
        self.store_id = f"gateway-{hashlib.sha256(place.encode()).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"GatewayStore({self._wire.shown!r}, project_id={self.project_id!r})"

    def create_experiment(self, experiment_name: str, **fields: Any) -> Record:
        """As the contract; a `record_id` is added, so that a lost answer does not make a second experiment."""
        return super().create_experiment(experiment_name, **{"record_id": uuid4().hex, **fields})

    def log_many(self, run_id: str, points: Sequence[MetricPoint]) -> list[StoreError | None]:
        """One POST for each point, all its names in it."""
        return outcomes(
            lambda point: self.log_metrics(run_id, point.step, point.metrics, split=point.split),
            points,
            self._concurrency,
        )

    def add_predictions(self, rows: Sequence[Mapping[str, Any]]) -> list[StoreError | None]:
        """One POST for each row."""
        return outcomes(lambda row: self.add_prediction(**row), rows, self._concurrency)

    def find(
        self, op: str, wanted: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
    ) -> list[Record | None]:
        """The records that earlier calls made, by listing and comparing."""
        if not can_recall(op):
            return [None] * len(wanted)
        return recall(self._patiently, op, wanted, {*known, *self._made})

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    # -- repeating -------------------------------------------------------------------------------------------------

    def _do(self, op: str, args: dict[str, Any]) -> Any:
        if not op.startswith(MAKES_RECORDS):
            return self._patiently(op, args)
        result = self._make(op, args)
        if isinstance(result, dict) and result.get("id"):
            self._made.add(str(result["id"]))
        elif op.startswith("create_"):
            raise Unclear(f"{op}: {self._wire.shown} answered without the id of what it made")
        return result

    def _patiently(self, op: str, args: dict[str, Any]) -> Any:
        """An operation that may be done twice."""
        patience = _Patience(self._budget_s, self.deadline)
        while True:
            try:
                return self._wire.post(op, args, patience.left())
            except (Unreachable, Unclear) as error:
                patience.pause(error)

    def _make(self, op: str, args: dict[str, Any]) -> Any:
        """An operation that must not be done twice: after an unclear failure, look before repeating."""
        patience = _Patience(self._budget_s, self.deadline)
        once = uuid4().hex  # for a server that is still at it when we look
        unclear: Unclear | None = None
        while True:
            try:
                if unclear is not None:
                    found = recall(lambda lister, scope: self._ask(lister, scope, patience), op, [args], {*self._made})[
                        0
                    ]
                    if found is not None:
                        return found
                    unclear = None
                return self._wire.post(op, args, patience.left(), once=once)
            except Unclear as error:
                unclear = unclear or error
                if not can_recall(op):
                    raise
                patience.pause(unclear)
            except Unreachable as error:
                patience.pause(unclear or error)

    def _ask(self, op: str, args: dict[str, Any], patience: _Patience) -> Any:
        return self._wire.post(op, args, patience.left())


class _Patience:
    """How long one record may take, and the pauses between its tries."""

    def __init__(self, budget_s: float, deadline: float | None) -> None:
        self._deadline = min(time.monotonic() + budget_s, deadline or math.inf)
        self._tries = 0

    def left(self) -> float:
        """Seconds left; at least a moment, so that a try can fail by itself."""
        return max(0.05, self._deadline - time.monotonic())

    def pause(self, error: StoreError) -> None:
        """Wait before the next try; raises the error if there is no time for one."""
        wait = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._tries) * random.uniform(0.5, 1.0)
        wait = max(wait, getattr(error, "retry_after", 0.0))
        self._tries += 1
        if time.monotonic() + wait >= self._deadline:
            raise error
        time.sleep(wait)


@register_store("gateway", config=GatewayStoreConfig)
def open_gateway(config: GatewayStoreConfig) -> BulkStore:
    """The store that the settings name."""
    return GatewayStore(
        config.url,
        project_id=config.project_id,
        timeout_s=config.timeout_s,
        budget_s=config.budget_s,
        concurrency=config.concurrency,
    )
