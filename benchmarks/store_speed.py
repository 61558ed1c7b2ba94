"""How fast metric rows reach the disk and the store: python benchmarks/store_speed.py [steps]

A metric row is one value of one name at one step; a step has five names, or one, the worst case. `record`: ArmRecord to
a durable events.jsonl (one write() a step, fsync at the end). `sync`: that file into SQLite by `sync`, durable too. The
alternatives that give each figure its meaning run beside: a fsync for each line, one INSERT and commit for each row.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from evsys_hydra.record import ArmRecord, ExperimentRecord
from evsys_hydra.record.files import write_json
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync

NAMES = ("loss", "lr", "grad_norm", "tokens_per_s", "memory_gb")
WANTED = 30_000
REPEATS = 3


def values(step: int, names: int) -> dict[str, float]:
    """The metrics of one training step."""
    return {name: (step + place) / 7 for place, name in enumerate(NAMES[:names])}


def record(directory: Path, steps: int, names: int) -> None:
    """An arm that records its curves, as training does."""
    arm = ArmRecord(directory)
    arm.start()
    for step in range(steps):
        arm.metrics(step, values(step, names))
    arm.complete({"status": "completed", "metrics": {}})


def line_by_line(path: Path, steps: int, names: int) -> None:
    """The alternative to `record`: json and a fsync for each step."""
    with path.open("a") as file:
        for step in range(steps):
            file.write(json.dumps({"step": step, "values": values(step, names)}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def row_by_row(path: Path, steps: int, names: int) -> None:
    """The alternative to `sync`: one INSERT and commit for each row, in the same kind of file."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE rows (run TEXT, step INTEGER, name TEXT, value REAL, split TEXT)")
    for step in range(steps):
        for name, value in values(step, names).items():
            database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", ("run", step, name, value, "train"))
    database.close()


def experiment(directory: Path) -> tuple[ExperimentRecord, Path]:
    """An experiment with one arm that has not run."""
    made = ExperimentRecord.create(directory, name="speed", metadata={})
    arm = made.arm_directory("a")
    arm.mkdir(parents=True)
    (arm / "config.yaml").write_text(yaml.safe_dump({"algorithm": {"kind": "sft"}}))
    write_json(arm / "arm.json", {"name": "a", "group": "a", "seed": 0, "role": "arm"})
    made.add_arms(["a"])
    return made, arm


def rate(rows: int, call: Callable[[], object]) -> float:
    """Rows a second of one call."""
    started = time.perf_counter()
    call()
    return rows / (time.perf_counter() - started)


def measure(steps: int, names: int, where: Path) -> dict[str, float]:
    """Rows a second of each way, once."""
    rows, few = steps * names, max(steps // 50, 20)
    _, arm = experiment(where / "exp")
    found = {
        "record": rate(rows, lambda: record(arm, steps, names)),
        "fsync a line": rate(few * names, lambda: line_by_line(where / "lines.jsonl", few, names)),
    }
    store = LocalStore(where / "evsys.db")
    found["sync"] = rate(rows, lambda: sync(where / "exp", store))
    assert len(store.get_metrics(store.list_runs()[0]["id"])) == rows
    store.close()
    found["commit a row"] = rate(few * names, lambda: row_by_row(where / "rows.db", few, names))
    return found


def main(steps: int) -> int:
    """Measure and print the best of a few repeats; 1 if a wanted rate was missed."""
    missed = 0
    for names in (len(NAMES), 1):
        rates: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory(dir=os.environ.get("EVSYS_BENCH_DIR")) as folder:
                for way, value in measure(steps, names, Path(folder)).items():
                    rates.setdefault(way, []).append(value)
        best = {way: max(found) for way, found in rates.items()}
        print(f"{names} names a step, {steps:,} steps")
        for way, found in rates.items():
            print(f"  {way:13} {best[way]:10,.0f} rows/s   (all: {', '.join(f'{value:,.0f}' for value in found)})")
        print(f"  record is {best['record'] / best['fsync a line']:.0f} times as fast as a fsync for each line,")
        print(f"  sync {best['sync'] / best['commit a row']:.0f} times as fast as a commit for each row")
        missed += sum(best[way] < WANTED for way in ("record", "sync"))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
