"""`evsys-hydra compare A B`: two groups of any two experiments, paired by task, with the tasks that flipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..ranking import rank, write_conclusion
from ..record import ArmView, ExperimentRecord
from ..results import ArmResult, EvalResult, direction_of
from .collect import PER_TASK, read_arm, rewards

WIDTH = 100


@dataclass
class Side:
    """One of the two groups: its arms, their results, and the benchmark they are compared on."""

    label: str
    record: ExperimentRecord
    arms: list[ArmView]
    results: list[ArmResult]
    evaluation: EvalResult


@dataclass
class Comparison:
    """What `compare` found.

    Args:
        facts: verdict and flipped tasks as plain JSON.
        conclusion: the verdict in words.
    """

    facts: dict[str, Any]
    conclusion: str

    def text(self, show: int) -> str:
        """The conclusion and the first flipped tasks with both outputs."""
        flips = self.facts["flipped"]
        labels = self.facts["groups"]
        lines = [self.conclusion, "", f"{len(flips)} task(s) flipped between {labels[0]} and {labels[1]}."]
        for flip in flips[:show]:
            lines += ["", f"{flip['task_id']}: {_short(flip['instruction'])}"]
            lines.append(f"  expected  {_short(flip['expected'])}")
            for label, side in zip(labels, flip["sides"], strict=True):
                lines.append(f"  {side['reward']:.2f}  {label}: {_short(side['output'])}")
        if len(flips) > show:
            lines += ["", f"... and {len(flips) - show} more (--show, --json)"]
        return "\n".join(lines)


def compare_groups(first: str, second: str) -> Comparison:
    """Compare two groups given as DIRECTORY or DIRECTORY:group (without a group: the one with the highest estimate).

    Raises:
        RecordError: no such experiment or group, no score, or other tasks.
    """
    one, two = _side(first), _side(second)
    if one.label == two.label:
        one.label, two.label = f"{one.label} ({first})", f"{two.label} ({second})"
    if one.evaluation.benchmark_hash != two.evaluation.benchmark_hash:
        raise RecordError(
            f"{first} and {second} were not scored on the same tasks: "
            f"benchmark {one.evaluation.name} ({_short(one.evaluation.benchmark_hash)}) "
            f"and {two.evaluation.name} ({_short(two.evaluation.benchmark_hash)})."
        )
    metric = str((one.record.facts.get("metadata") or {}).get("success_metric") or "pass_rate").rsplit(".", 1)[-1]
    metric = metric if PER_TASK.fullmatch(metric) else "pass_rate"
    rows = [row for side in (one, two) for row in _rows(side, binary=metric != "mean_reward")]
    table: dict[str, Any] = {
        "metric": {"name": metric, "direction": direction_of(metric, None), "kind": "per_task", "bounds": [0, 1]},
        "arms": rows,
        "clusters": None,
        "baseline": None,
        "hypothesis": None,
        "min_effect": None,
        "alpha": 0.05,
        "rng_seed": 0,
    }
    verdict = rank(table)
    arms = [{"name": row["name"], "group": row["group"], "status": "completed", "score": None} for row in rows]
    flips = _flips(one, two)
    facts = {"groups": [one.label, two.label], "metric": metric, "verdict": verdict, "flipped": flips}
    return Comparison(facts, write_conclusion(verdict, arms, metric).rsplit("\n\n", 1)[0])


def _side(words: str) -> Side:
    path, _, group = words.partition(":")
    directory = Path(path)
    record = ExperimentRecord.load(directory)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    scored = [(view, result) for view in views if (result := read_arm(view)).status == "completed" and result.primary]
    if not group:
        group = max(scored, key=lambda pair: _rate(pair[1]), default=(views[0], None))[0].group
    chosen = [(view, result) for view, result in scored if view.group == group]
    if not chosen:
        known = ", ".join(dict.fromkeys(view.group for view, _ in scored)) or "none"
        raise RecordError(f"{directory}: no scored group {group!r}. Scored groups: {known}")
    primary = chosen[0][1].primary
    assert primary is not None
    return Side(group, record, [view for view, _ in chosen], [result for _, result in chosen], primary)


def _rate(result: ArmResult) -> float:
    return result.eval_metrics.get("pass_rate", 0.0)


def _rows(side: Side, *, binary: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{side.label}: {view.name}",
            "group": side.label,
            "seed": view.seed,
            "status": "ok",
            "per_task": rewards(view, side.evaluation.name, binary=binary),
            "scalar": None,
        }
        for view in side.arms
    ]


def _flips(one: Side, two: Side) -> list[dict[str, Any]]:
    """Tasks that one group passes more often than not and the other does not, the clearest first."""
    shares = [_shares(side) for side in (one, two)]
    flips = []
    for task in sorted(shares[0].keys() & shares[1].keys()):
        first, second = shares[0][task], shares[1][task]
        if (first["reward"] >= 0.5) != (second["reward"] >= 0.5):
            facts = {"task_id": task, "instruction": first["instruction"], "expected": first["expected"]}
            flips.append({**facts, "sides": [_shown(first), _shown(second)]})
    return sorted(flips, key=lambda flip: -abs(flip["sides"][0]["reward"] - flip["sides"][1]["reward"]))


def _shares(side: Side) -> dict[str, dict[str, Any]]:
    """task -> share of passing samples over all arms of the side, and the first output."""
    found: dict[str, dict[str, Any]] = {}
    for view in side.arms:
        for row in view.predictions(side.evaluation.name):
            if row.get("reward") is None:
                continue
            task = found.setdefault(str(row["task_id"]), {**row, "passes": []})
            task["passes"].append(float(row["reward"] >= 1))
    return {name: {**task, "reward": sum(task["passes"]) / len(task["passes"])} for name, task in found.items()}


def _shown(task: dict[str, Any]) -> dict[str, Any]:
    return {"reward": task["reward"], "output": task.get("output")}


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
