"""How long the dashboard's pages take over a store with 10,000 arms, through a real server on this machine.

Run: python benchmarks/page_speed.py [--arms 10000] [--repeat 5]. One experiment holds all arms, 200 others are small.
Every arm has a config, a log's end, an evaluation with breakdowns and a curve of 50 points; one arm has curves of
100,000 points; two arms have 2,000 predictions. Prints the median and the slowest of each page, the first request
(cold) apart, and the CPU time of server and client together, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import gc
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.protocol import MetricPoint
from evsys_hydra.store.sqlite.records import insert_sql, insert_values, now
from evsys_hydra.store.sqlite.schema import EVALS, EXPERIMENTS, PREDICTIONS, RUNS

CONFIG = {f"part{i}": {f"setting{j}": f"some value {i * j}" for j in range(8)} for i in range(12)}
LIMIT_MS = 300


def main() -> None:
    """Build the store, ask for every page, print the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "evsys.db")
        started = time.monotonic()
        fill(store, options.arms)
        size = (Path(folder) / "evsys.db").stat().st_size / 2**20
        print(f"{options.arms:,} arms, {size:,.0f} MB, built in {time.monotonic() - started:.0f} s")
        print(f"{'page':38} {'first':>9} {'median':>9} {'slowest':>9} {'CPU':>9} {'size':>9}")
        gc.freeze()  # as dashboard/open.py does
        with serving(create_app(store)) as url, httpx.Client(base_url=url, timeout=60) as client:
            worst = max(measure(client, name, path, options.repeat) for name, path in pages(options.arms))
        print(f"slowest answer {worst:.0f} ms; the aim is {LIMIT_MS} ms")
        store.close()


def pages(arms: int) -> list[tuple[str, str]]:
    """Name and address of every page."""
    best = f"run{arms - 1}"
    return [
        ("experiments", "/"),
        ("experiments, searched", "/?q=small&sort=name"),
        ("experiment", "/experiments/big"),
        ("experiment, arms by duration, page 50", "/experiments/big?sort=seconds&desc=1&page=50"),
        ("experiment, arms by name", "/experiments/big?q=lr%3D7&state=completed"),
        ("experiment's curves", "/experiments/big/curves"),
        ("arm", f"/arms/{best}"),
        ("arm, config beside another", f"/arms/{best}?against=lr%3D0%2Cwd%3D0%2Cseed%3D1"),
        ("arm's curves of 100,000 points", "/arms/run0/curves"),
        ("predictions", f"/arms/{best}/predictions"),
        ("predictions that failed, page 20", f"/arms/{best}/predictions?passed=no&page=20"),
        ("predictions of a breakdown", f"/arms/{best}/predictions?slice=level:3"),
        ("predictions beside another arm's", f"/arms/{best}/predictions?against=run{arms - 2}"),
    ]


def measure(client: httpx.Client, name: str, path: str, repeat: int) -> float:
    """Ask for a page, print its times; gives the slowest in milliseconds."""
    taken, busy = [], []
    for _ in range(repeat + 1):
        started, worked = time.perf_counter(), time.process_time()
        answer = client.get(path)
        taken.append(1000 * (time.perf_counter() - started))
        busy.append(1000 * (time.process_time() - worked))
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    first, rest = taken[0], taken[1:]
    size = len(answer.content) / 1024
    times = (first, statistics.median(rest), max(rest), statistics.median(busy))
    print(f"{name:38} {' '.join(f'{value:6.0f} ms' for value in times)} {size:6.0f} kB")
    return max(taken)


def fill(store: LocalStore, arms: int) -> None:
    """The records, in a few large transactions."""
    rng = random.Random(0)
    groups = [f"lr={n % 100},wd={n // 100}" for n in range(arms // 2)]
    scores = {group: rng.random() for group in groups}
    order = sorted(groups, key=lambda group: -scores[group])
    rows = {g: {"estimate": scores[g], "ci": [scores[g] - 0.03, scores[g] + 0.03], "n_seeds": 2} for g in order[:2000]}
    ranking = {
        "verdict": "tie_at_top", "winner": None, "best_set": order[:7], "n_best": 7, "n_groups": len(order),
        "ranking": order[:2000], "arms": rows, "metric": "pass_rate", "direction": "maximize", "alpha": 0.05,
        "differences": {g: {"diff": -0.1, "ci": [-0.2, 0.0], "p": 0.01, "p_eff": 0.01} for g in order[1:2000]},
    }  # fmt: skip
    made = {"created_at": now()}
    big = {
        "id": "big", "project_id": None, "name": "big sweep", "hypothesis": "One of many is best.", "tags": ["big"],
        "status": "completed", "conclusion": "7 groups are tied.\n\nBest arm: a.", "best_score": 0.99, "is_valid": True,
        "metadata": {"success_metric": "pass_rate", "n_arms": arms}, "ranking": ranking, **made,
    }  # fmt: skip
    few = {**ranking, "ranking": order[:9], "arms": {g: rows[g] for g in order[:9]}, "differences": {}}
    small = [{**big, "id": f"small{n}", "name": f"small {n}", "ranking": few} for n in range(200)]
    with store.db.transaction() as connection:
        connection.executemany(insert_sql(EXPERIMENTS), [insert_values(EXPERIMENTS, row) for row in [*small, big]])
        runs = [run(n, groups[n // 2], scores[groups[n // 2]], rng) | made for n in range(arms)]
        connection.executemany(insert_sql(RUNS), [insert_values(RUNS, row) for row in runs])
        evals = [evaluation(n, scores[groups[n // 2]], rng) | made for n in range(arms)]
        connection.executemany(insert_sql(EVALS), [insert_values(EVALS, row) for row in evals])
        predictions = [row | made for n in (arms - 1, arms - 2) for row in two_thousand(n, rng)]
        connection.executemany(insert_sql(PREDICTIONS), [insert_values(PREDICTIONS, row) for row in predictions])
        series = [(n + 1, f"run{n}", "loss", "train") for n in range(arms)]
        connection.executemany("INSERT INTO series (n, run_id, name, split) VALUES (?, ?, ?, ?)", series)
        points = ((n + 1, step, rng.random()) for n in range(arms) for step in range(50))
        connection.executemany("INSERT INTO points VALUES (?, ?, ?)", points)
    long = [MetricPoint(step, {"loss": 1 / (step + 1), "reward": rng.random()}) for step in range(100_000)]
    store.log_many("run0", long)


def run(n: int, group: str, score: float, rng: random.Random) -> dict[str, Any]:
    """One arm's run."""
    summary = {
        "score": score + rng.gauss(0, 0.01), "primary": "bench", "metrics": {"loss": rng.random()}, "attempt": 1,
        "started": 0.0, "ended": rng.random() * 5000, "node": "node1", "log": [f"step {i} loss 0.1" for i in range(60)],
    }  # fmt: skip
    swept = {"lr": n // 2 % 100, "wd": n // 200, "seed": n % 2}
    return {
        "id": f"run{n}", "experiment_id": "big", "group_id": None, "name": f"{group},seed={n % 2}", "group": group,
        "seed": n % 2, "role": "arm", "status": "completed" if n % 50 else "failed", "recipe_kind": "sft",
        "run_config": {**CONFIG, "lr": n}, "swept": swept, "summary": summary, "directory": f"/exp/arms/run{n}",
    }  # fmt: skip


def evaluation(n: int, score: float, rng: random.Random) -> dict[str, Any]:
    """One arm's evaluation after training."""
    values = {str(level): {"n": 250, "mean_reward": score, "pass_rate": rng.random()} for level in range(8)}
    metrics = {"mean_reward": score, "pass_rate": score, "n_tasks": 2000, "n_errors": 0}
    return {"id": f"eval{n}", "run_id": f"run{n}", "step": None, "metrics": metrics, "breakdowns": {"level": values}}


def two_thousand(n: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """The predictions of one arm."""
    for task in range(2000):
        yield {
            "id": f"p{n}-{task}", "run_id": f"run{n}", "eval_id": f"eval{n}", "kind": "eval", "task_id": f"task-{task}",
            "instruction": "How much is it? " * 20, "model_output": "It is 42. " * 30, "expected": "42",
            "reward": float(rng.random() < 0.5), "sample_idx": 0, "metadata": {"task": {"level": task % 8}},
        }  # fmt: skip


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an app from a thread of this process; gives its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


if __name__ == "__main__":
    main()
