"""Every operation of the contract as one call of `_do(op, args)`: for stores that treat all operations alike.

The arguments of each method are written down once, here; a subclass says what happens with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StoreError
from .protocol import DataRow, MetricRow, PredictionKind, Record, Status


class Operations:
    """Turns the methods of EvsysStore into `_do(op, args)`; arguments that are None are left out.

    Args:
        project_id: filled in where an operation belongs to a project and none is given.
    """

    def __init__(self, project_id: str | None = None) -> None:
        self.project_id = project_id

    def _do(self, op: str, args: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _project(self, project_id: str | None) -> str | None:
        return project_id or self.project_id

    def _run(self, op: str, /, **args: Any) -> Any:
        return self._do(op, {key: value for key, value in args.items() if value is not None})

    def _object(self, op: str, /, **args: Any) -> Record:
        result = self._run(op, **args)
        if not isinstance(result, dict):
            raise StoreError(f"{op}: the store answered {_kind(result)} where an object was due")
        return result

    def _maybe(self, op: str, /, **args: Any) -> Record | None:
        result = self._run(op, **args)
        if result is not None and not isinstance(result, dict):
            raise StoreError(f"{op}: the store answered {_kind(result)} where an object was due")
        return result

    def _list(self, op: str, /, **args: Any) -> list[Any]:
        result = self._run(op, **args)
        if result is not None and not isinstance(result, list):
            raise StoreError(f"{op}: the store answered {_kind(result)} where a list was due")
        return result or []

    def create_project(
        self, name: str, *, description: str | None = None, organization_id: str | None = None
    ) -> Record:
        return self._object("create_project", name=name, description=description, organization_id=organization_id)

    def get_project(self, project_id: str | None = None) -> Record | None:
        return self._maybe("get_project", project_id=self._project(project_id))

    def delete_project(self, project_id: str | None = None) -> object:
        return self._run("delete_project", project_id=self._project(project_id))

    def set_goal(self, goal: str, *, project_id: str | None = None) -> Record:
        return self._object("set_goal", project_id=self._project(project_id), goal=goal)

    def list_goals(self, *, project_id: str | None = None) -> list[Record]:
        return self._list("list_goals", project_id=self._project(project_id))

    def current_goal(self, *, project_id: str | None = None) -> Record | None:
        return self._maybe("current_goal", project_id=self._project(project_id))

    def create_experiment(
        self,
        experiment_name: str,
        *,
        hypothesis: str | None = None,
        project_goal_id: str | None = None,
        tags: Sequence[str] | None = None,
        project_id: str | None = None,
        **fields: Any,
    ) -> Record:
        return self._object(
            "create_experiment",
            project_id=self._project(project_id),
            experiment_name=experiment_name,
            hypothesis=hypothesis,
            project_goal_id=project_goal_id,
            tags=tags,
            **fields,
        )

    def get_experiment(self, experiment_id: str) -> Record | None:
        return self._maybe("get_experiment", experiment_id=experiment_id)

    def update_experiment(self, experiment_id: str, patch: Mapping[str, Any]) -> Record:
        return self._object("update_experiment", experiment_id=experiment_id, patch=dict(patch))

    def delete_experiment(self, experiment_id: str) -> object:
        return self._run("delete_experiment", experiment_id=experiment_id)

    def list_experiments(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]:
        return self._list("list_experiments", project_id=self._project(project_id), valid_only=valid_only)

    def experiment_summaries(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]:
        return self._list("experiment_summaries", project_id=self._project(project_id), valid_only=valid_only)

    def experiment_detail(self, experiment_id: str, *, include_metrics: bool = False) -> Record:
        return self._object("experiment_detail", experiment_id=experiment_id, include_metrics=include_metrics)

    def create_group(self, experiment_id: str, name: str, *, description: str | None = None) -> Record:
        return self._object("create_group", experiment_id=experiment_id, name=name, description=description)

    def list_groups(self, experiment_id: str) -> list[Record]:
        return self._list("list_groups", experiment_id=experiment_id)

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
    ) -> Record:
        return self._object(
            "create_run",
            experiment_id=experiment_id,
            group_id=group_id,
            dataset_id=dataset_id,
            seed=seed,
            recipe_kind=recipe_kind,
            run_config=run_config,
            status=status,
            **fields,
        )

    def get_run(self, run_id: str) -> Record | None:
        return self._maybe("get_run", run_id=run_id)

    def update_run(self, run_id: str, patch: Mapping[str, Any]) -> Record:
        return self._object("update_run", run_id=run_id, patch=dict(patch))

    def list_runs(self, *, experiment_id: str | None = None, group_id: str | None = None) -> list[Record]:
        return self._list("list_runs", experiment_id=experiment_id, group_id=group_id)

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
    ) -> Record:
        return self._object(
            "create_dataset",
            project_id=self._project(project_id),
            name=name,
            format=format,
            version=version,
            source_kind=source_kind,
            transform=transform,
            storage_uri=storage_uri,
            metadata=metadata,
        )

    def add_dataset_rows(self, dataset_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]:
        return self._list("add_dataset_rows", dataset_id=dataset_id, rows=list(rows), start_idx=start_idx)

    def get_dataset(self, dataset_id: str) -> Record | None:
        return self._maybe("get_dataset", dataset_id=dataset_id)

    def get_dataset_rows(self, dataset_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]:
        return self._list("get_dataset_rows", dataset_id=dataset_id, limit=limit, offset=offset)

    def list_datasets(self, *, project_id: str | None = None) -> list[Record]:
        return self._list("list_datasets", project_id=self._project(project_id))

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
    ) -> Record:
        return self._object(
            "create_benchmark",
            project_id=self._project(project_id),
            name=name,
            format=format,
            version=version,
            source_kind=source_kind,
            transform=transform,
            storage_uri=storage_uri,
            metadata=metadata,
        )

    def add_benchmark_rows(self, benchmark_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]:
        return self._list("add_benchmark_rows", benchmark_id=benchmark_id, rows=list(rows), start_idx=start_idx)

    def get_benchmark(self, benchmark_id: str) -> Record | None:
        return self._maybe("get_benchmark", benchmark_id=benchmark_id)

    def get_benchmark_rows(self, benchmark_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]:
        return self._list("get_benchmark_rows", benchmark_id=benchmark_id, limit=limit, offset=offset)

    def list_benchmarks(self, *, project_id: str | None = None) -> list[Record]:
        return self._list("list_benchmarks", project_id=self._project(project_id))

    def add_checkpoint(
        self,
        run_id: str,
        uri: str,
        *,
        label: str | None = None,
        step: int | None = None,
        base_model: str | None = None,
        is_final: bool = False,
    ) -> Record:
        return self._object(
            "add_checkpoint",
            run_id=run_id,
            uri=uri,
            label=label,
            step=step,
            base_model=base_model,
            is_final=is_final,
        )

    def list_checkpoints(self, run_id: str) -> list[Record]:
        return self._list("list_checkpoints", run_id=run_id)

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
    ) -> Record:
        return self._object(
            "create_eval",
            run_id=run_id,
            benchmark_id=benchmark_id,
            checkpoint_id=checkpoint_id,
            model_ref=model_ref,
            step=step,
            metrics=metrics,
            breakdowns=breakdowns,
            sdk_version=sdk_version,
        )

    def list_evals(self, run_id: str) -> list[Record]:
        return self._list("list_evals", run_id=run_id)

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
    ) -> Record:
        return self._object(
            "add_prediction",
            run_id=run_id,
            kind=kind,
            eval_id=eval_id,
            task_id=task_id,
            instruction=instruction,
            model_output=model_output,
            expected=expected,
            reward=reward,
            advantage=advantage,
            step=step,
            sample_idx=sample_idx,
            metadata=metadata,
        )

    def list_predictions(self, run_id: str, *, kind: PredictionKind | None = None) -> list[Record]:
        return self._list("list_predictions", run_id=run_id, kind=kind)

    def log_metric(self, run_id: str, step: int, name: str, value: float | None, *, split: str = "train") -> object:
        if value is None:  # JSON has no NaN, and the contract's values are numbers
            return None
        return self._run("log_metric", run_id=run_id, step=step, name=name, value=value, split=split)

    def log_metrics(
        self, run_id: str, step: int, metrics: Mapping[str, float | None], *, split: str = "train"
    ) -> list[Any]:
        numbers = {name: value for name, value in metrics.items() if value is not None}
        if not numbers:
            return []
        result = self._run("log_metrics", run_id=run_id, step=step, metrics=numbers, split=split)
        return result if isinstance(result, list) else []

    def get_metrics(self, run_id: str, *, name: str | None = None, split: str | None = None) -> list[MetricRow]:
        return self._list("get_metrics", run_id=run_id, name=name, split=split)

    def set_conclusion(self, experiment_id: str, conclusion: str) -> Record:
        return self.update_experiment(experiment_id, {"conclusion": conclusion})

    def invalidate_experiment(self, experiment_id: str, error_message: str | None = None) -> Record:
        patch: dict[str, Any] = {"is_valid": False}
        if error_message is not None:
            patch["error_message"] = error_message
        return self.update_experiment(experiment_id, patch)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
