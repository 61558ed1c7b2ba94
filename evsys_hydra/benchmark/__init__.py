"""Benchmarks: tasks, how an answer is verified, how rewards become metrics, and scoring a client on them.

Nothing here imports torch; the parts load when they are first asked for, because each verifier process imports this
package too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import BenchmarkScore
    from .scoring import score
    from .tasks import Benchmark, Task, check_benchmark

_MODULE_OF = {
    "Benchmark": ".tasks",
    "BenchmarkScore": ".results",
    "Task": ".tasks",
    "check_benchmark": ".tasks",
    "score": ".scoring",
}
__all__ = ["Benchmark", "BenchmarkScore", "Task", "check_benchmark", "score"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
