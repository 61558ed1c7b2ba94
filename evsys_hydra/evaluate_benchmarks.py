"""What `evsys-hydra eval` scores: an arm's own benchmarks, a folder, an option of conf/benchmark.

An eval with settings of its own has a name of its own, made of the benchmark's and of what was changed, so that it
never takes the place of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from . import registry
from .benchmark import Benchmark, check_benchmark
from .benchmark.tasks import name_of
from .config import BenchmarkConfig, ExperimentConfig, KindConfig, typed
from .errors import ConfigError, DataError
from .problems import describe_validation

WORD = re.compile(r"(benchmark|inference)\.([\w.]+)=")
SAME_SAMPLES = ("name", "id", "tags", "metrics", "breakdown_keys", "cluster_key", "verifier_timeout")
"""Fields that change neither the samples nor which of them there are."""
NOT_SCORED: dict[str, Any] = {"run_every": None, "model": None, "models": []}
NOT_CHANGED = {
    "run_every": "an evaluation scores a checkpoint that is there; validation while training is the sweep's",
    "adaptive": "an evaluation scores every task; which group may stop is decided in the sweep",
    **dict.fromkeys(
        ("model", "models"),
        "an evaluation scores what arms have trained; an API model alone: python -m evsys_hydra algorithm=none "
        "inference=api inference.model=NAME benchmark=...",
    ),
}
"""Fields that change nothing here, and what does instead."""


@dataclass(frozen=True)
class Chosen:
    """A benchmark that is to be scored.

    Args:
        entry: its settings; `name` is the eval's.
        own: whether the arm's config names this benchmark.
    """

    entry: BenchmarkConfig
    benchmark: Benchmark
    own: bool


def chosen(config: ExperimentConfig, names: Sequence[str], words: Sequence[str], here: Path) -> list[Chosen]:
    """The benchmarks that are to be scored for an arm.

    Args:
        config: the arm's; its plugins are loaded.
        names: of the arm's own benchmarks, folders, or options of conf/benchmark; empty: all of the arm's own.
        here: the directory that folders are seen from.
        words: `benchmark.max_tokens=64` changes each of them, `inference.dtype=float32` how answers are made.

    Raises:
        ConfigError: every problem of the names, the settings and the tasks.
    """
    check_words(words)
    own = {name_of(entry): entry for entry in config.metadata.benchmark}
    if not names and not own:
        raise ConfigError("the arm's config names no benchmark: say which with --benchmark (a name or a folder)")
    entries = [(own[name], True) if name in own else (_elsewhere(name, own, here), False) for name in names or own]
    changed = [part for part in (_changed_inference(config, word) for word in _words("inference", words)) if part]
    found: list[Chosen] = []
    problems: list[str] = []
    for entry, is_own in entries:
        try:
            found.append(_chosen(entry, is_own, _words("benchmark", words), changed, inference(config, words)))
        except (ConfigError, DataError) as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return found


def inference(config: ExperimentConfig, words: Sequence[str]) -> KindConfig:
    """How the arm's answers are made, with the `inference.` words applied.

    Raises:
        ConfigError: settings that do not fit the arm's kind of inference.
    """
    merged = _merged(config.inference, _words("inference", words))
    try:
        settings: KindConfig = typed(registry.inference, merged)
    except ValueError as error:
        raise ConfigError(f"inference.{error}") from error
    return settings


def check_words(words: Sequence[str]) -> None:
    """Raises ConfigError for words that change something else than the evaluation."""
    if wrong := [word for word in words if not WORD.match(word)]:
        fields = [field for field in BenchmarkConfig.model_fields if field not in NOT_CHANGED]
        raise ConfigError(
            f"{', '.join(wrong)}: an evaluation can change benchmark.FIELD=VALUE and inference.FIELD=VALUE only. "
            f"Fields of a benchmark: {', '.join(fields)}"
        )
    found = [re.split(r"[.=]", word)[0] for word in _words("benchmark", words)]
    if useless := [f"benchmark.{field}: {NOT_CHANGED[field]}" for field in found if field in NOT_CHANGED]:
        raise ConfigError("\n".join(useless))


def _chosen(
    entry: BenchmarkConfig, own: bool, words: Sequence[str], changed: Sequence[str], inference: KindConfig
) -> Chosen:
    try:
        changed_entry = BenchmarkConfig.model_validate({**_merged(entry, words), **NOT_SCORED})
    except ValidationError as error:
        problems = describe_validation(error, BenchmarkConfig)
        raise ConfigError("\n".join(f"benchmark.{problem}" for problem in problems)) from error
    if problems := check_benchmark(changed_entry, inference):
        raise ConfigError("\n".join(problems))
    benchmark = Benchmark.load(changed_entry)
    more = [word for word in words if _changes_samples(word, entry, changed_entry)]
    name = "-".join([name_of(changed_entry), *more, *changed])
    update: dict[str, Any] = {"name": name}
    if own:  # what the experiment asked for stays in the row, whatever is asked for beside it
        update["metrics"] = [*dict.fromkeys([*entry.metrics, *changed_entry.metrics])]
        update["breakdown_keys"] = [*dict.fromkeys([*entry.breakdown_keys, *changed_entry.breakdown_keys])]
    if not own or more or changed:  # the experiment's config says which benchmark is the primary one
        update["tags"] = [tag for tag in changed_entry.tags if tag != "test"]
    return Chosen(changed_entry.model_copy(update=update), benchmark, own)


def _elsewhere(name: str, own: Mapping[str, BenchmarkConfig], here: Path) -> BenchmarkConfig:
    """The benchmark of a folder or of conf/benchmark."""
    folder = (here / name).resolve()
    if (folder / "tasks.jsonl").is_file():
        return BenchmarkConfig(path=str(folder))
    from .resolve import resolved
    from .sweep.open import compose

    try:
        _, composed = compose([f"benchmark={name}"])
        return BenchmarkConfig.model_validate(resolved(composed.benchmark))
    except ConfigError as error:
        options = re.search(r"Available options in '\w+':((?:\n\t.*)*)", str(error))
        known = ", ".join(options[1].split()) if options else "see conf/benchmark"
        raise ConfigError(
            f"--benchmark {name}: neither a benchmark of the arm ({', '.join(own) or 'it has none'}), "
            f"nor a folder with tasks.jsonl, nor an option of conf/benchmark ({known})"
        ) from error
    except ValidationError as error:
        raise ConfigError(f"--benchmark {name}: {'; '.join(describe_validation(error, BenchmarkConfig))}") from error


def _words(part: str, words: Sequence[str]) -> list[str]:
    """The words of a part, without its name."""
    return [word.removeprefix(f"{part}.") for word in words if word.startswith(f"{part}.")]


def _merged(settings: BaseModel, words: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    base = OmegaConf.create(settings.model_dump(mode="json"))
    merged = OmegaConf.to_container(OmegaConf.merge(base, OmegaConf.from_dotlist(list(words))))
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def _changes_samples(word: str, before: BenchmarkConfig, after: BenchmarkConfig) -> bool:
    field = re.split(r"[.=]", word)[0]
    return field not in (*SAME_SAMPLES, *NOT_SCORED) and getattr(before, field) != getattr(after, field)


def _changed_inference(config: ExperimentConfig, word: str) -> str | None:
    return f"inference.{word}" if inference(config, [f"inference.{word}"]) != config.inference else None
