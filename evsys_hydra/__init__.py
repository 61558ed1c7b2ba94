"""evsys_hydra: which of these fine-tuning recipes is better, and can I believe it?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arm import InferenceFactory, TrainFn
    from .benchmark import Benchmark, BenchmarkScore
    from .config import BenchmarkConfig, DataConfig, ExperimentConfig, KindConfig, ModelConfig, RunConfig
    from .errors import ConfigError, DataError, EvaluationError, EvsysError, RecordError, StoreError, UnknownKind
    from .experiment import Experiment
    from .inference.client import InferenceClient, Request, Result
    from .registry import (
        register_algorithm,
        register_benchmark,
        register_dataset,
        register_inference,
        register_metric,
        register_store,
        register_tracker,
        register_transform,
        register_verifier,
    )
    from .results import ArmResult, EvalResult, ExperimentResult, RunResult
    from .store import EvsysStore
    from .sweep.conclude import conclude
    from .training.context import TrainContext

_WHERE = {
    ".arm": ("InferenceFactory", "TrainFn"),
    ".benchmark": ("Benchmark", "BenchmarkScore"),
    ".config": ("BenchmarkConfig", "DataConfig", "ExperimentConfig", "KindConfig", "ModelConfig", "RunConfig"),
    ".errors": (
        "ConfigError",
        "DataError",
        "EvaluationError",
        "EvsysError",
        "RecordError",
        "StoreError",
        "UnknownKind",
    ),
    ".experiment": ("Experiment",),
    ".inference.client": ("InferenceClient", "Request", "Result"),
    ".registry": (
        "register_algorithm",
        "register_benchmark",
        "register_dataset",
        "register_inference",
        "register_metric",
        "register_store",
        "register_tracker",
        "register_transform",
        "register_verifier",
    ),
    ".results": ("ArmResult", "EvalResult", "ExperimentResult", "RunResult"),
    ".store": ("EvsysStore",),
    ".sweep.conclude": ("conclude",),
    ".training.context": ("TrainContext",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
__all__ = [
    "ArmResult",
    "Benchmark",
    "BenchmarkConfig",
    "BenchmarkScore",
    "ConfigError",
    "DataConfig",
    "DataError",
    "EvalResult",
    "EvaluationError",
    "EvsysError",
    "EvsysStore",
    "Experiment",
    "ExperimentConfig",
    "ExperimentResult",
    "InferenceClient",
    "InferenceFactory",
    "KindConfig",
    "ModelConfig",
    "RecordError",
    "Request",
    "Result",
    "RunConfig",
    "RunResult",
    "StoreError",
    "TrainContext",
    "TrainFn",
    "UnknownKind",
    "conclude",
    "register_algorithm",
    "register_benchmark",
    "register_dataset",
    "register_inference",
    "register_metric",
    "register_store",
    "register_tracker",
    "register_transform",
    "register_verifier",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import evsys_hydra` costs nothing."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
