"""What a store has of an experiment, in words that do not depend on the store's ids: to compare and to count."""

from __future__ import annotations

from typing import Any

from evsys_hydra.store import EvsysStore


def contents(store: EvsysStore, name: str = "demo") -> dict[str, Any]:
    """Everything of the one experiment of this name."""
    (summary,) = [row for row in store.list_experiments() if row["name"] == name]
    detail = store.experiment_detail(summary["id"], include_metrics=True)
    experiment = detail["experiment"]
    return {
        "experiment": [experiment[key] for key in ("hypothesis", "tags", "status", "conclusion", "best_score")],
        "groups": sorted(group["name"] or "" for group in detail["groups"]),
        "runs": sorted(
            (_run(store, run, group) for group in detail["groups"] for run in group["runs"]),
            key=lambda run: run["name"],
        ),
        "benchmarks": sorted(row["name"] for row in store.list_benchmarks()),
    }


def _run(store: EvsysStore, run: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    benchmarks = {row["id"]: row["name"] for row in store.list_benchmarks()}
    evals = {row["id"]: place for place, row in enumerate(run["evals"])}
    checkpoints = {row["id"]: row["uri"] for row in run["checkpoints"]}
    return {
        **{key: run[key] for key in ("name", "seed", "status", "run_config", "summary", "recipe_kind")},
        "error": run["error_message"] or None,
        "group": group["name"],
        "metrics": [tuple(row.values()) for row in run["metrics"]],
        "checkpoints": [(row["uri"], row["step"], row["is_final"]) for row in run["checkpoints"]],
        "evals": [
            (
                benchmarks.get(row["benchmark_id"]),
                checkpoints.get(row["checkpoint_id"]),
                *(row[key] for key in ("model_ref", "step", "metrics", "breakdowns")),
            )
            for row in run["evals"]
        ],
        "predictions": sorted(
            (evals[row["eval_id"]], row["task_id"], row["sample_idx"], row["model_output"], row["reward"] or 0)
            for row in store.list_predictions(run["id"])
        ),
    }
