"""In-loop rows on every algorithm, full and with adapters: in the arm's record with their step, and in the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import open_dict

from evsys_hydra.arm import live
from evsys_hydra.composed import typed_config
from evsys_hydra.record import ArmRecord, ArmView, ExperimentRecord
from evsys_hydra.record.files import read_lines, write_json
from evsys_hydra.store import open_store_at
from evsys_hydra.store.sync import sync
from evsys_hydra.sweep.collect import read_arm
from evsys_hydra.sweep.open import compose

pytestmark = [pytest.mark.model, pytest.mark.slow]

DATA = {"sft": "demo", "dpo": "demo_preferences", "grpo": "demo_tasks", "sdft": "demo"}
TUNED = {"full": "demo", "lora": "lora"}
SMALL = ["lr=1e-4", "algorithm.max_steps=4", "algorithm.batch_size=2", "data.limit=16", "store=none"]
VALIDATION = "{name: val, generate: {kind: demo, n: 3, seed: 7}, tags: [val], max_tokens: 8, run_every: 2}"
TEST = "{name: test, generate: {kind: demo, n: 4}, tags: [test], max_tokens: 8}"


def run(record: ExperimentRecord, algorithm: str, tuned: str) -> Path:
    """One arm, as its process runs it."""
    name = f"{algorithm}-{tuned}"
    words = [f"algorithm={algorithm}", f"data={DATA[algorithm]}", f"model={TUNED[tuned]}", "model.name=demo", *SMALL]
    words += ["algorithm.num_generations=2", "algorithm.max_tokens=8"] if algorithm == "grpo" else []
    _, master = compose([*words, f"benchmarks=[{VALIDATION},{TEST}]", f"arm={name}"])
    directory = record.arm_directory(name)
    directory.mkdir(parents=True)
    write_json(directory / "arm.json", {"name": name, "group": name, "seed": 0, "role": "arm"})
    record.add_arms([name])
    with open_dict(master):
        del master["hydra"]
    arm = ArmRecord(directory)
    arm.start()
    live(typed_config(master), arm)
    return directory


def test_rows_with_their_step_reach_the_record_and_the_store(tmp_path: Path) -> None:
    record = ExperimentRecord.create(tmp_path / "exp", name="in_loop", metadata={})
    for algorithm in DATA:
        for tuned in TUNED:
            directory = run(record, algorithm, tuned)
            arm = read_arm(ArmView(directory))
            assert [(row.name, row.step, row.error) for row in arm.evals] == [
                ("val", 2, None),
                ("val", 4, None),
                ("val", None, None),
                ("test", None, None),
            ], directory.name
            assert all(row.metrics["n_errors"] == 0 and row.metrics["mean_reward"] >= 0 for row in arm.evals)
            last, final = arm.eval("val", 4), arm.eval("val")
            assert last is not None and final is not None and final.step is None
            assert last.metrics == final.metrics, "the live model after the last step is the one that was saved"
            assert arm.primary is not None and arm.primary.name == "test"
            for step in (2, 4):
                assert len(list(read_lines(directory / "predictions" / f"val-step{step}.jsonl"))) == 3
    store = open_store_at(str(tmp_path / "store.sqlite"))
    assert sync(record.directory, store).error is None
    (experiment,) = store.list_experiments()
    runs = store.list_runs(experiment_id=experiment["id"])
    assert len(runs) == len(DATA) * len(TUNED)
    for one in runs:
        arm = read_arm(ArmView(record.arm_directory(one["name"])))
        stored = sorted(
            (row.get("step") or 0, row["metrics"]["mean_reward"]) for row in store.list_evals(run_id=one["id"])
        )
        assert stored == sorted((row.step or 0, row.metrics["mean_reward"]) for row in arm.evals)
