"""`EvsysStore`: the operations that every store has, under the names of the EvSys gateway.

Each method is one operation of the wire contract with the same argument names, so an implementation is one POST, one
SQL statement, or nothing. `project_id` may be left out: the store's own project is used. Records are JSON objects.
Every method may raise StoreError, and by its subclasses (store.errors) says whether repeating it can help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

from ..errors import StoreError

Record = dict[str, Any]
"""A JSON object with an `id`."""
Status = Literal["pending", "running", "completed", "failed", "cancelled"]
Split = Literal["train", "val", "test"]
PredictionKind = Literal["eval", "rollout"]


class MetricRow(TypedDict):
    """One value of a curve."""

    step: int
    name: str
    value: float | None
    split: str


class DataRow(TypedDict):
    """One row of a dataset or benchmark, with its place."""

    idx: int
    payload: Any


@dataclass(frozen=True)
class MetricPoint:
    """All metrics of one step; a value of None (it was not finite) is kept where the store can hold it."""

    step: int
    metrics: Mapping[str, float | None]
    split: str = "train"


@runtime_checkable
class EvsysStore(Protocol):
    """Where the records of experiments go, for people to look at."""

    project_id: str | None

    # -- projects and goals ----------------------------------------------------------------------------------------

    def create_project(
        self, name: str, *, description: str | None = None, organization_id: str | None = None
    ) -> Record: ...

    def get_project(self, project_id: str | None = None) -> Record | None: ...

    def delete_project(self, project_id: str | None = None) -> object: ...

    def set_goal(self, goal: str, *, project_id: str | None = None) -> Record:
        """Give the project a goal: a new version, {id, version, goal}."""
        ...

    def list_goals(self, *, project_id: str | None = None) -> list[Record]:
        """Every version, oldest first."""
        ...

    def current_goal(self, *, project_id: str | None = None) -> Record | None: ...

    # -- experiments, groups, runs ---------------------------------------------------------------------------------

    def create_experiment(
        self,
        experiment_name: str,
        *,
        hypothesis: str | None = None,
        project_goal_id: str | None = None,
        tags: Sequence[str] | None = None,
        project_id: str | None = None,
        **fields: Any,
    ) -> Record: ...

    def get_experiment(self, experiment_id: str) -> Record | None: ...

    def update_experiment(self, experiment_id: str, patch: Mapping[str, Any]) -> Record: ...

    def delete_experiment(self, experiment_id: str) -> object: ...

    def list_experiments(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]: ...

    def experiment_summaries(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]:
        """{id, name, hypothesis, conclusion, is_valid} of each."""
        ...

    def experiment_detail(self, experiment_id: str, *, include_metrics: bool = False) -> Record:
        """{experiment, groups: [{..., runs: [{..., run_config, evals, checkpoints (, metrics)}]}]}."""
        ...

    def create_group(self, experiment_id: str, name: str, *, description: str | None = None) -> Record: ...

    def list_groups(self, experiment_id: str) -> list[Record]: ...

    def create_run(
        self,
        experiment_id: str,
        *,
        group_id: str | None = None,
        dataset_id: str | None = None,
        seed: int | None = None,
        recipe_kind: str | None = None,
        run_config: Mapping[str, Any] | None = None,
        status: Status = "pending",
        **fields: Any,
    ) -> Record: ...

    def get_run(self, run_id: str) -> Record | None: ...

    def update_run(self, run_id: str, patch: Mapping[str, Any]) -> Record: ...

    def list_runs(self, *, experiment_id: str | None = None, group_id: str | None = None) -> list[Record]: ...

    # -- datasets and benchmarks -----------------------------------------------------------------------------------

    def create_dataset(
        self,
        name: str,
        format: str,
        *,
        version: int = 1,
        source_kind: str | None = None,
        transform: Any = None,
        storage_uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        project_id: str | None = None,
    ) -> Record: ...

    def add_dataset_rows(self, dataset_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]: ...

    def get_dataset(self, dataset_id: str) -> Record | None:
        """With n_rows, format and version."""
        ...

    def get_dataset_rows(self, dataset_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]: ...

    def list_datasets(self, *, project_id: str | None = None) -> list[Record]: ...

    def create_benchmark(
        self,
        name: str,
        format: str,
        *,
        version: int = 1,
        source_kind: str | None = None,
        transform: Any = None,
        storage_uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        project_id: str | None = None,
    ) -> Record: ...

    def add_benchmark_rows(self, benchmark_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]: ...

    def get_benchmark(self, benchmark_id: str) -> Record | None:
        """With n_rows, format and version."""
        ...

    def get_benchmark_rows(self, benchmark_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]: ...

    def list_benchmarks(self, *, project_id: str | None = None) -> list[Record]: ...

    # -- what a run leaves -----------------------------------------------------------------------------------------

    def add_checkpoint(
        self,
        run_id: str,
        uri: str,
        *,
        label: str | None = None,
        step: int | None = None,
        base_model: str | None = None,
        is_final: bool = False,
    ) -> Record: ...

    def list_checkpoints(self, run_id: str) -> list[Record]: ...

    def create_eval(
        self,
        run_id: str,
        *,
        benchmark_id: str | None = None,
        checkpoint_id: str | None = None,
        model_ref: str | None = None,
        step: int | None = None,
        metrics: Mapping[str, float | None],
        breakdowns: Mapping[str, Any] | None = None,
        sdk_version: str | None = None,
    ) -> Record: ...

    def list_evals(self, run_id: str) -> list[Record]: ...

    def add_prediction(
        self,
        run_id: str,
        kind: PredictionKind,
        *,
        eval_id: str | None = None,
        task_id: str | None = None,
        instruction: Any = None,
        model_output: Any = None,
        expected: Any = None,
        reward: float | None = None,
        advantage: float | None = None,
        step: int | None = None,
        sample_idx: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> Record: ...

    def list_predictions(self, run_id: str, *, kind: PredictionKind | None = None) -> list[Record]: ...

    def log_metric(self, run_id: str, step: int, name: str, value: float | None, *, split: str = "train") -> object: ...

    def log_metrics(
        self, run_id: str, step: int, metrics: Mapping[str, float | None], *, split: str = "train"
    ) -> list[Any]: ...

    def get_metrics(self, run_id: str, *, name: str | None = None, split: str | None = None) -> list[MetricRow]:
        """Long rows in the order of their steps."""
        ...

    # -- sugar -----------------------------------------------------------------------------------------------------

    def set_conclusion(self, experiment_id: str, conclusion: str) -> Record:
        """update_experiment {conclusion}."""
        ...

    def invalidate_experiment(self, experiment_id: str, error_message: str | None = None) -> Record:
        """update_experiment {is_valid: false, error_message}: its results should not be used."""
        ...


@runtime_checkable
class BulkStore(EvsysStore, Protocol):
    """A store that takes many records at once; the sync uses these forms where they exist.

    `store_id` names the place the records go to: what was sent to it is remembered under this name.
    `takes_ids`: create_ and add_ operations accept an `id`, and a second record of the same id is not made, so that
    a replay is harmless. `batch`: how many records a bulk operation handles well.
    """

    store_id: str
    takes_ids: bool
    batch: int

    def log_many(self, run_id: str, points: Sequence[MetricPoint]) -> list[StoreError | None]:
        """log_metrics of each point; an outcome for each: None, or why the store did not take it."""
        ...

    def add_predictions(self, rows: Sequence[Mapping[str, Any]]) -> list[StoreError | None]:
        """add_prediction of each row (its arguments); an outcome for each."""
        ...

    def find(
        self, op: str, wanted: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
    ) -> list[Record | None]:
        """The records that earlier, perhaps failed, calls of `op` made; None for a call that made none.

        Args:
            wanted: the arguments of each call.
            known: ids of records that other calls made.
        """
        ...

    def close(self) -> None: ...
