"""Power before spend: what this many tasks, seeds and groups can tell apart, said before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import BenchmarkConfig
from ..ranking import detectable
from ..record import ArmView, ExperimentRecord
from ..record.files import read_json
from .collect import ranking_table, read_arm
from .plan import Arm


def expected_power(arms: Sequence[Arm], outputs: Path) -> dict[str, Any] | None:
    """What the planned experiment could detect with 80% power.

    Args:
        outputs: the folder of earlier experiments with the same name; the newest one that was scored on the same tasks
            serves as the pilot.

    Returns:
        What `ranking.detectable` returns; None if there is nothing to compare or no benchmark.
    """
    own = [arm for arm in arms if arm.role == "arm"]
    seeds = Counter(arm.group for arm in own)
    entry = primary_entry(own[0].config.metadata.benchmark) if own else None
    if len(seeds) < 2 or entry is None or not own[0].config.metadata.success_metric:
        return None
    from ..benchmark import Benchmark
    from ..benchmark.task import at_path

    benchmark = Benchmark.load(entry)
    tasks = benchmark.tasks[: entry.limit]
    clusters = [at_path(task.metadata, entry.cluster_key) if entry.cluster_key else None for task in tasks]
    n_units = len({cluster for cluster in clusters if cluster is not None}) + clusters.count(None)
    pilot = _pilot(outputs, benchmark.hash)
    return detectable(n_units, min(seeds.values()), len(seeds), pilot=pilot)


def primary_entry(entries: Sequence[BenchmarkConfig]) -> BenchmarkConfig | None:
    """The first benchmark tagged `test`, else the first."""
    return next((entry for entry in entries if "test" in entry.tags), entries[0] if entries else None)


def _pilot(outputs: Path, benchmark_hash: str) -> dict[str, Any] | None:
    earlier = sorted(outputs.glob("*/conclusion.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in earlier[:20]:
        if (read_json(path) or {}).get("status") != "completed":
            continue
        record = ExperimentRecord.load(path.parent)
        views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
        results = [read_arm(view) for view in views]
        primary = next((result.primary for result in results if result.primary), None)
        if primary is None or primary.benchmark_hash != benchmark_hash:
            continue
        table = ranking_table(record, views, results)
        if table is not None and table["metric"]["kind"] == "per_task" and _groups(table) > 1:
            return table
    return None


def _groups(table: dict[str, Any]) -> int:
    return len({row["group"] for row in table["arms"] if row["status"] == "ok" and row["ranked"]})
