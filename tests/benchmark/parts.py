"""Parts for tests of scoring: verifiers that misbehave, and clients that answer as told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from evsys_hydra import Benchmark, Request, Result, register_verifier

LOCK = threading.Lock()


@register_verifier("test_moody")
def moody(output: str, expected: Any, params: dict[str, Any]) -> float:
    """Does what the answer says."""
    print("a verifier may print")
    if output == "loop":
        while True:
            pass
    if output == "sleep":
        time.sleep(60)
    if output == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if output == "exit":
        sys.exit(3)
    if output == "os_exit":
        os._exit(4)
    if output == "raise":
        raise ValueError("not today")
    if output == "nan":
        return float("nan")
    if output == "two":
        return 2.0
    return float(output == expected)


def benchmark(answers: Sequence[str], fn_name: str = "test_moody", **params: Any) -> Benchmark:
    """One task an answer: its instruction is the answer that `Echo` will give, "good" is right."""
    verifier = {"kind": "in_process", "fn_name": fn_name, "expected": "good", "params": params}
    rows = [
        {"task_id": f"t{place}", "instruction": answer, "verifier": verifier, "metadata": {"parity": place % 2}}
        for place, answer in enumerate(answers)
    ]
    return Benchmark.from_iterable("moods", rows)


class Echo:
    """Answers with the user's words; keeps the requests it saw, and stops after `breaks_after` answers."""

    identity = "echo"

    def __init__(self, breaks_after: int | None = None, error: BaseException | None = None) -> None:
        self.asked: list[Request] = []
        self._breaks_after = breaks_after
        self._error = error or RuntimeError("the engine broke")

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        results = []
        for index, request in enumerate(requests):
            if self._breaks_after is not None and index == self._breaks_after:
                raise self._error
            self.asked.append(request)
            text = request.messages[-1]["content"]
            result = Result(error="HTTP 500") if text == "unanswered" else Result(text, completion_tokens=1)
            results.append(result)
            if on_result is not None:
                on_result(index, result)
        return results
