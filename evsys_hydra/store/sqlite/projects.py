"""Projects, goals, experiments, groups and runs in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadRequest, UnknownId
from ..protocol import Record, Status
from .records import Records, from_json
from .schema import CHECKPOINTS, EVALS, EXPERIMENTS, GOALS, GROUPS, PROJECTS, RUNS

SUMMARY = ("id", "name", "hypothesis", "conclusion", "is_valid")


class Projects:
    """Operations on projects and goals.

    `project_id` None in a list stands for every project.
    """

    db: Records
    project_id: str | None

    def create_project(
        self, name: str, *, description: str | None = None, organization_id: str | None = None, id: str | None = None
    ) -> Record:
        return self.db.put(PROJECTS, {"name": name, "description": description, "organization_id": organization_id}, id)

    def get_project(self, project_id: str | None = None) -> Record | None:
        project = project_id or self.project_id
        return self.db.get(PROJECTS, project) if project else None

    def delete_project(self, project_id: str | None = None) -> object:
        project = project_id or self.project_id
        if not project:
            raise BadRequest("delete_project needs a project_id")
        for experiment in self.db.all(EXPERIMENTS, project_id=project):
            self.db.delete(EXPERIMENTS, experiment["id"])
        with self.db.transaction() as connection:
            for table in ("goals", "datasets"):
                connection.execute(f"DELETE FROM {table} WHERE project_id = ?", (project,))
        return {"deleted": self.db.delete(PROJECTS, project)}

    def set_goal(self, goal: str, *, project_id: str | None = None, id: str | None = None) -> Record:
        project = project_id or self.project_id
        version = len(self.list_goals(project_id=project)) + 1
        return self.db.put(GOALS, {"project_id": project, "version": version, "goal": goal}, id)

    def list_goals(self, *, project_id: str | None = None) -> list[Record]:
        return self.db.all(GOALS, project_id=project_id or self.project_id)

    def current_goal(self, *, project_id: str | None = None) -> Record | None:
        return next(reversed(self.list_goals(project_id=project_id)), None)


class Experiments:
    """Operations on experiments, groups and runs."""

    db: Records
    project_id: str | None

    def create_experiment(
        self,
        experiment_name: str,
        *,
        hypothesis: str | None = None,
        project_goal_id: str | None = None,
        tags: Sequence[str] | None = None,
        project_id: str | None = None,
        id: str | None = None,
        **fields: Any,
    ) -> Record:
        record = {
            "project_id": project_id or self.project_id,
            "name": experiment_name,
            "hypothesis": hypothesis,
            "project_goal_id": project_goal_id,
            "tags": list(tags or []),
            "status": "pending",
            "conclusion": None,
            "best_score": None,
            "is_valid": True,
            **fields,
        }
        return self.db.put(EXPERIMENTS, record, id)

    def get_experiment(self, experiment_id: str) -> Record | None:
        return self.db.get(EXPERIMENTS, experiment_id)

    def update_experiment(self, experiment_id: str, patch: Mapping[str, Any]) -> Record:
        return self.db.patch(EXPERIMENTS, experiment_id, patch)

    def delete_experiment(self, experiment_id: str) -> object:
        return {"deleted": self.db.delete(EXPERIMENTS, experiment_id)}

    def list_experiments(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]:
        found = self.db.all(EXPERIMENTS, project_id=project_id or self.project_id)
        return [record for record in found if record.get("is_valid", True) or not valid_only]

    def experiment_summaries(self, *, valid_only: bool = False, project_id: str | None = None) -> list[Record]:
        found = self.list_experiments(valid_only=valid_only, project_id=project_id)
        return [{key: record.get(key) for key in SUMMARY} for record in found]

    def experiment_detail(self, experiment_id: str, *, include_metrics: bool = False) -> Record:
        experiment = self.get_experiment(experiment_id)
        if experiment is None:
            raise UnknownId(f"no experiment {experiment_id!r} here")
        groups = {group["id"]: {**group, "runs": []} for group in self.list_groups(experiment_id)}
        loose: Record = {"id": None, "name": None, "runs": []}  # runs without a group
        curves = self._curves(experiment_id) if include_metrics else None
        evals = self._by_run(EVALS.name, experiment_id)
        checkpoints = self._by_run(CHECKPOINTS.name, experiment_id)
        for run in self.list_runs(experiment_id=experiment_id):
            whole = {**run, "evals": evals.get(run["id"], []), "checkpoints": checkpoints.get(run["id"], [])}
            if curves is not None:
                whole["metrics"] = curves.get(run["id"], [])
            groups.get(run.get("group_id") or "", loose)["runs"].append(whole)
        listed = [*groups.values(), *([loose] if loose["runs"] else [])]
        return {"experiment": experiment, "groups": listed}

    def create_group(
        self, experiment_id: str, name: str, *, description: str | None = None, id: str | None = None
    ) -> Record:
        return self.db.put(GROUPS, {"experiment_id": experiment_id, "name": name, "description": description}, id)

    def list_groups(self, experiment_id: str) -> list[Record]:
        return self.db.all(GROUPS, experiment_id=experiment_id)

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
        id: str | None = None,
        **fields: Any,
    ) -> Record:
        record = {
            "experiment_id": experiment_id,
            "group_id": group_id,
            "dataset_id": dataset_id,
            "seed": seed,
            "recipe_kind": recipe_kind,
            "run_config": run_config,
            "status": status,
            "error_message": None,
            "summary": None,
            **fields,
        }
        return self.db.put(RUNS, record, id)

    def get_run(self, run_id: str) -> Record | None:
        return self.db.get(RUNS, run_id)

    def update_run(self, run_id: str, patch: Mapping[str, Any]) -> Record:
        return self.db.patch(RUNS, run_id, patch)

    def list_runs(self, *, experiment_id: str | None = None, group_id: str | None = None) -> list[Record]:
        return self.db.all(RUNS, experiment_id=experiment_id, group_id=group_id)

    def set_conclusion(self, experiment_id: str, conclusion: str) -> Record:
        return self.update_experiment(experiment_id, {"conclusion": conclusion})

    def invalidate_experiment(self, experiment_id: str, error_message: str | None = None) -> Record:
        message = {"error_message": error_message} if error_message is not None else {}
        return self.update_experiment(experiment_id, {"is_valid": False, **message})

    def _by_run(self, table: str, experiment_id: str) -> dict[str, list[Record]]:
        rows = self.db.select(
            f"SELECT t.run_id, t.data FROM {table} t JOIN runs r ON r.id = t.run_id "
            "WHERE r.experiment_id = ? ORDER BY t.n",
            (experiment_id,),
        )
        found: dict[str, list[Record]] = {}
        for run, data in rows:
            found.setdefault(run, []).append(from_json(data))
        return found

    def _curves(self, experiment_id: str) -> dict[str, list[Record]]:
        rows = self.db.select(
            "SELECT s.run_id, p.step, s.name, p.value, s.split FROM runs r JOIN series s ON s.run_id = r.id "
            "JOIN points p ON p.series = s.n WHERE r.experiment_id = ? ORDER BY p.step, s.n",
            (experiment_id,),
        )
        found: dict[str, list[Record]] = {}
        for run, step, name, value, split in rows:
            found.setdefault(run, []).append({"step": step, "name": name, "value": value, "split": split})
        return found
