"""Whether there will be a value to rank by: known before anything is launched, where the names are known."""

from __future__ import annotations

from ..benchmark.metrics import metric_names
from ..benchmark.tasks import name_of
from ..config import ExperimentConfig
from ..hints import did_you_mean


def success_metric_problem(config: ExperimentConfig) -> str | None:
    """What is wrong with an arm's `metadata.success_metric`; None: nothing that can be known.

    A name with a benchmark's before it is of that benchmark; another one is of the primary benchmark, else of the
    training, whose figures are known where the algorithm names them.
    """
    metric, entries = config.metadata.success_metric, config.metadata.benchmark
    if metric is None:
        return None
    of_benchmarks = {name_of(entry): metric_names(entry) for entry in entries}
    for name in sorted(of_benchmarks, key=len, reverse=True):
        if metric.startswith(f"{name}."):
            return _unless(metric, [f"{name}.{key}" for key in of_benchmarks[name]])
    figures = vars(type(config.algorithm)).get("figures")  # its own: one that inherits settings may say more
    if figures is None:
        return None
    primary = next((entry for entry in entries if "test" in entry.tags), next(iter(entries), None))
    bare = [*(metric_names(primary) if primary is not None else []), *figures]
    return _unless(metric, [*bare, *(f"{name}.{key}" for name, keys in of_benchmarks.items() for key in keys)])


def _unless(metric: str, known: list[str]) -> str | None:
    if metric in known:
        return None
    hint = did_you_mean(metric, known)
    return f"metadata.success_metric = {metric!r} will have no value{hint}; metrics: {', '.join(known)}"
