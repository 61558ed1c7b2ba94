"""Sandboxed programs a second, against the same programs in a bare subprocess of Python, in turns.

    python benchmarks/sandbox_speed.py [--programs 100] [--rounds 3]

The program is an answer of a few lines with two tests, as `python_tests` runs it; the subprocess is `python -I -S -c`,
without any limit. One at a time on one core: what a sandbox adds is the difference of the two times.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from evsys_hydra.benchmark.sandbox import Limits, problem, run
from evsys_hydra.benchmark.sandbox_program import run_tests

ANSWER = "def add(a, b):\n    return a + b\n"
TESTS = ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    limits = Limits()
    if (wrong := problem(limits)) is not None:
        raise SystemExit(wrong)
    program = f"{inspect.getsource(run_tests)}\nrun_tests{(ANSWER, TESTS, 'add', 'word')!r}"

    def sandboxed() -> str:
        return run(program, limits=limits).output

    def bare() -> str:
        return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True).stdout

    assert sandboxed().split() == bare().split() == ["word", "2"]
    times: dict[str, list[float]] = {"sandboxed": [], "bare": []}
    for _ in range(asked.rounds):
        for name, call in (("sandboxed", sandboxed), ("bare", bare)):
            times[name].append(_seconds(call, asked.programs))
    median = {name: statistics.median(found) for name, found in times.items()}
    for name, seconds in median.items():
        print(f"{name}: {asked.programs / seconds:.1f} programs/s ({1000 * seconds / asked.programs:.1f} ms each)")
    print(f"ratio: {median['sandboxed'] / median['bare']:.2f} times a bare subprocess")


def _seconds(call: Callable[[], str], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
