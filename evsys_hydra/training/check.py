"""What can be known of a training before anything is launched."""

from __future__ import annotations

from ..benchmark.metrics import metric_names
from ..benchmark.tasks import name_of
from ..config import ExperimentConfig
from ..hints import did_you_mean
from .loop_config import LoopConfig

FLOAT16 = "cannot be trained in (its gradients underflow)"


def training_problems(config: ExperimentConfig) -> list[str]:
    """Why an arm could not be trained as its config says; an empty list: it could."""
    if not isinstance(config.algorithm, LoopConfig):
        return []
    found = []
    if config.model.dtype == "float16":
        found.append(
            f"model.dtype = 'float16' {FLOAT16}: use auto, bfloat16 or float32; inference.dtype=float16 evaluates in it"
        )
    if config.algorithm.early_stopping is not None:
        found += _unwatchable(config, config.algorithm.early_stopping.metric)
    return found


def _unwatchable(config: ExperimentConfig, metric: str) -> list[str]:
    every = {name_of(entry): entry for entry in config.metadata.benchmark}
    scored = {name: metric_names(entry) for name, entry in every.items() if entry.run_every is not None}
    if not scored:
        return [
            f"algorithm.early_stopping.metric = {metric!r}, but no benchmark is scored during training: set run_every "
            f"on the benchmark (there is {', '.join(every) or 'none'})"
        ]
    known = [f"{name}.{key}" for name, keys in scored.items() for key in keys]
    if metric in known:
        return []
    hint = did_you_mean(metric, known)
    return [
        f"algorithm.early_stopping.metric = {metric!r} is not scored during training{hint}: write one of "
        f"{', '.join(known)}, or set run_every on another benchmark"
    ]
