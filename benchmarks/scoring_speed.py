"""Scoring overhead: everything but generation, with a client that answers at once.

Prompts, seeds, hand-over to the verifier process, verification, one line a prediction on disk, metrics, a breakdown.

    python benchmarks/scoring_speed.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from evsys_hydra import Benchmark, Request, Result

WANTED = 5000.0


class Instant:
    """Answers with the instruction's last word."""

    identity = "instant"

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        results = [Result(request.messages[-1]["content"].split()[-1]) for request in requests]
        for index, result in enumerate(results):
            if on_result is not None:
                on_result(index, result)
        return results


def main() -> None:
    """Measure, print one JSON object; exit with 1 below the wanted rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    n = parser.parse_args().tasks
    rows = [
        {
            "task_id": f"task-{number}",
            "instruction": f"Repeat the last word of this line: {number}",
            "verifier": {"kind": "in_process", "fn_name": fn_name, "expected": str(number), "params": {}},
            "metadata": {"digit": number % 10},
        }
        for number in range(n)
        for fn_name in (("exact_match", "contains", "regex_match", "numeric")[number % 4],)
    ]
    benchmark = Benchmark.from_iterable("instant", rows)
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            started = time.perf_counter()
            scored = benchmark.score(Instant(), breakdown_keys=["digit"], predictions=Path(folder) / f"{number}.jsonl")
            rates.append(n / (time.perf_counter() - started))
            assert scored.metrics["pass_rate"] == 1.0, scored.metrics
        started = time.perf_counter()
        resumed = benchmark.score(Instant(), breakdown_keys=["digit"], predictions=Path(folder) / "0.jsonl")
        resume_rate = n / (time.perf_counter() - started)
        assert resumed.resumed == n
    report = {
        "predictions": n,
        "per_s_with_start_of_the_verifier_process": round(rates[0]),
        "per_s": [round(rate) for rate in rates[1:]],
        "resumed_per_s": round(resume_rate),
        "wanted_per_s": WANTED,
    }
    print(json.dumps(report, indent=2))
    if min(rates) < WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
