"""Where a `kind` in a config finds its code.

One registry for each pluggable part. Built-in kinds are named here with the module that registers them, imported
only when the kind is asked for, so that the driver validates `algorithm.kind=sft` without importing torch. A user's
own parts come from `plugins: [my_module, path/to/plugins.py]` in the config or from entry points of installed
packages (group `evsys_hydra.plugins`).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import ConfigError, UnknownKind

if TYPE_CHECKING:
    from pydantic import BaseModel

ENTRY_POINTS = "evsys_hydra.plugins"
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered part: what to call, and the pydantic model that types its config (None: no settings)."""

    kind: str
    target: T
    config: type[BaseModel] | None
    module: str


@dataclass
class Registry(Generic[T]):
    """The known kinds of one pluggable part.

    Args:
        part: what the kinds are, as the user's messages call it ("verifier").
        builtin: kind -> module that registers it on import.
    """

    part: str
    builtin: dict[str, str] = field(default_factory=dict)
    entries: dict[str, Entry[T]] = field(default_factory=dict)

    def register(self, kind: str, *, config: type[BaseModel] | None = None) -> Callable[[T], T]:
        """Decorator: make a function or class known as `kind`.

        Raises:
            ConfigError: if another module already registered this kind.
        """

        def add(target: T) -> T:
            known = self.entries.get(kind)
            if known is not None and known.module != target.__module__:
                raise ConfigError(
                    f"{self.part} kind {kind!r} is registered twice: by {known.module} and by {target.__module__}. "
                    "Give one of them another name."
                )
            self.entries[kind] = Entry(kind, target, config, target.__module__)
            return target

        return add

    def kinds(self) -> list[str]:
        """All known kinds, sorted."""
        return sorted({*self.builtin, *self.entries})

    def get(self, kind: str) -> Entry[T]:
        """The entry of a kind.

        Raises:
            UnknownKind: naming the known kinds and the nearest one.
        """
        if kind not in self.entries and kind in self.builtin:
            importlib.import_module(self.builtin[kind])
        if kind not in self.entries:
            near = difflib.get_close_matches(str(kind), self.kinds(), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownKind(
                f"Unknown {self.part} kind {kind!r}.{hint} Known kinds: {', '.join(self.kinds())}. "
                "Your own are found through `plugins: [my_module]`."
            )
        return self.entries[kind]


algorithms: Registry[Any] = Registry(
    "algorithm",
    {
        "dpo": "evsys_hydra.training.dpo",
        "grpo": "evsys_hydra.training.grpo",
        "none": "evsys_hydra.training.untrained",
        "sdft": "evsys_hydra.training.sdft",
        "sft": "evsys_hydra.training.sft",
    },
)
datasets: Registry[Any] = Registry(
    "dataset",
    {
        "demo": "evsys_hydra.demo.dataset",
        "demo_preferences": "evsys_hydra.demo.preferences",
        "demo_tasks": "evsys_hydra.demo.training_tasks",
    },
)
transforms: Registry[Any] = Registry(
    "transform",
    dict.fromkeys(("dedupe", "filter_length", "rename", "sample", "shuffle"), "evsys_hydra.training.transforms"),
)
benchmarks: Registry[Any] = Registry(
    "benchmark",
    {
        "arithmetic": "evsys_hydra.demo.arithmetic",
        "demo": "evsys_hydra.demo.benchmark",
        "lm_eval": "evsys_hydra.benchmark.lm_eval",
        "reasoning_gym": "evsys_hydra.benchmark.reasoning_gym",
        "tool_selection": "evsys_hydra.demo.tool_selection",
    },
)
verifiers: Registry[Any] = Registry(
    "verifier",
    {
        **dict.fromkeys(
            ("contains", "exact_match", "math_answer", "numeric", "regex_match", "tool_calls_match"),
            "evsys_hydra.benchmark.verifiers",
        ),
        "lm_eval": "evsys_hydra.benchmark.lm_eval_scores",
        "python_tests": "evsys_hydra.benchmark.python_tests",
        "reasoning_gym": "evsys_hydra.benchmark.reasoning_gym",
    },
)
metrics: Registry[Any] = Registry(
    "metric", dict.fromkeys(("mean_reward", "n_errors", "n_tasks", "pass_rate"), "evsys_hydra.benchmark.metrics")
)
inference: Registry[Any] = Registry(
    "inference",
    {
        "api": "evsys_hydra.inference.api",
        "local": "evsys_hydra.inference.local",
        "vllm": "evsys_hydra.inference.vllm",
    },
)
stores: Registry[Any] = Registry(
    "store",
    {
        "auto": "evsys_hydra.store.auto",
        "local": "evsys_hydra.store.local",
        "gateway": "evsys_hydra.store.gateway",
        "postgres": "evsys_hydra.store.postgres.store",
        "none": "evsys_hydra.store.none",
    },
)

trackers: Registry[Any] = Registry(
    "tracker",
    {kind: f"evsys_hydra.trackers.{kind}" for kind in ("mlflow", "tensorboard", "trackio", "wandb")},
)

ALL: dict[str, Registry[Any]] = {
    registry.part: registry
    for registry in (algorithms, datasets, transforms, benchmarks, verifiers, metrics, inference, stores, trackers)
}

register_algorithm = algorithms.register
register_dataset = datasets.register
register_transform = transforms.register
register_benchmark = benchmarks.register
register_verifier = verifiers.register
register_metric = metrics.register
register_inference = inference.register
register_store = stores.register
register_tracker = trackers.register


def load_plugins(plugins: Iterable[str]) -> list[Path]:
    """Import the user's modules, so that their decorators run.

    Args:
        plugins: importable module names, or paths of .py files.

    Returns:
        The source files of the imported modules, for the record's hashes.

    Raises:
        ConfigError: naming a plugin that cannot be imported, and why.
    """
    _load_entry_points()
    return [source for plugin in plugins if (source := _load_plugin(plugin)) is not None]


@cache
def _load_entry_points() -> None:
    if not names_plugins():
        return
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        point.load()


@cache
def names_plugins() -> bool:
    """Whether an installed package names plugins of ours; reading the files takes a tenth of importlib.metadata."""
    files = (file for folder in sys.path for file in Path(folder).glob("*-info/entry_points.txt"))
    return any(ENTRY_POINTS in file.read_text(errors="replace") for file in files)


def _load_plugin(plugin: str) -> Path | None:
    try:
        if plugin.endswith(".py"):
            return _load_file(Path(plugin).resolve())
        module = importlib.import_module(plugin)
        return Path(module.__file__) if module.__file__ else None
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"plugins: cannot import {plugin!r}: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> Path:
    name = f"evsys_plugin_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        if not path.is_file():
            raise ConfigError(f"plugins: no such file: {path}")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return path
