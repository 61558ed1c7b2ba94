"""A sweep whose every text tries to become markup: names, hypothesis, tags, config, error, log, predictions ..."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evsys_hydra.record import ArmRecord, ExperimentRecord
from evsys_hydra.record.files import write_json

ATTACKS = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "' autofocus onfocus='window.hacked=1",
    "</script><script>window.hacked=1</script>",
    "javascript:window.hacked=1",
    "{{ 7 * 191 }}{% raw %}",
    "]]><!--\u2028\u202e",
)
ATTACK = " ".join(ATTACKS)
HASH = "cd" * 32


def evil_experiment(directory: Path) -> ExperimentRecord:
    """Two completed arms and a failed one; every text is an attack."""
    metadata: dict[str, Any] = {"hypothesis": ATTACK, "tags": list(ATTACKS), "success_metric": "pass_rate"}
    record = ExperimentRecord.create(directory, name=f"evil {ATTACK}", metadata=metadata)
    for number, name in enumerate(("one", "two", "three")):
        _arm(record, name, number)
    group = [f"{name} {ATTACK}" for name in ("one", "two")]
    rows = {name: {"estimate": 0.5 - 0.1 * n, "ci": [0.3 - 0.1 * n, 0.7], "n_seeds": 1} for n, name in enumerate(group)}
    verdict = {
        "verdict": "winner", "winner": group[0], "best_set": group[:1], "ranking": group, "arms": rows,
        "differences": {group[1]: {"diff": -0.1, "ci": [-0.2, 0.0], "p": 0.01, "p_eff": 0.01}},
        "references": {f"ref {ATTACK}": {"estimate": 0.1, "ci": None, "n_seeds": 1}}, "baseline": None,
        "metric": f"pass_rate {ATTACK}", "direction": "maximize", "n_common_tasks": 4,
    }  # fmt: skip
    facts = {"generation": record.facts["generation"], "status": "completed", "best_score": 0.5, "verdict": verdict}
    write_json(directory / "conclusion.json", {**facts, "conclusion": f"{ATTACK}\n\n{ATTACK}", "best_arm": ATTACK})
    return record


def _arm(record: ExperimentRecord, name: str, number: int) -> None:
    directory = record.arm_directory(name)
    directory.mkdir(parents=True)
    config = {"lr": 0.1 * number, ATTACK: ATTACK, "nested": {"list": [ATTACK], ATTACK: {ATTACK: ATTACK}}}
    config["metadata"] = {"success_metric": "pass_rate"}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"name": f"{name} {ATTACK}", "group": f"{name} {ATTACK}", "seed": 0, "role": "arm"}
    swept = {"lr": 0.1 * number, f"algorithm.{ATTACK}": f"{number} {ATTACK}"}
    write_json(directory / "arm.json", {**facts, "swept": swept})
    record.add_arms([name])
    (directory / "arm.log").write_text(f"{ATTACK}\n" * 5)
    arm = ArmRecord(directory)
    arm.start()
    for step in range(5):
        arm.metrics(step, {"loss": 1.0 / (step + 1 + number), f"metric {ATTACK}": 1.0})
    arm.checkpoint(directory / "checkpoints" / "final", 5, final=True)
    for task in range(4):
        arm.prediction("bench", _prediction(task, number))
    values = {value: {"n": 2, "mean_reward": 0.5, "pass_rate": 0.5} for value in (ATTACK, "x")}
    metrics = {"pass_rate": 0.5 - 0.1 * number, f"m {ATTACK}": 0.5}
    arm.event(
        "eval", name="bench", benchmark_hash=HASH, metrics=metrics, breakdowns={f"key {ATTACK}": values}, tags=["test"],
        predictions="predictions/bench.jsonl",
    )  # fmt: skip
    if name == "three":
        arm.fail("user_error", f"ValueError: {ATTACK}", f"Traceback\n{ATTACK}")
    else:
        arm.complete({"status": "completed", "metrics": {"loss": 0.1}, "artifacts": {}, "train_seconds": 1.0})


def _prediction(task: int, number: int) -> dict[str, Any]:
    return {
        "kind": "eval", "task_id": f"task-{task} {ATTACK}", "sample_idx": 0, "instruction": ATTACK,
        "expected": {"answer": ATTACK}, "reward": None if task == 3 else float((task + number) % 2), "output": ATTACK,
        "error": ATTACK if task == 3 else None, "metadata": {"task": {f"key {ATTACK}": ATTACK}},
    }  # fmt: skip
