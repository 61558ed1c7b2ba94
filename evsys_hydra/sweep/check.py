"""Every problem of every arm in one message, each naming arm, field, value and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from ..config import ExperimentConfig
from ..errors import ConfigError, DataError
from ..problems import describe_validation
from ..registry import algorithms, load_plugins
from ..resolve import resolved
from ..secrets import referenced, scrub

MAX_SHOWN = 20


class Checker:
    """Collects problems; what several arms share (their data, their benchmarks) is read once.

    Args:
        data: whether to look at the training data (not where a train_fn brings its own).
        benchmarks: whether to look at the benchmarks (not where one was injected).
    """

    def __init__(self, *, data: bool = True, benchmarks: bool = True) -> None:
        self._data = data
        self._benchmarks = benchmarks
        self.problems: dict[str, list[str]] = {}
        self._seen: dict[bytes, list[str]] = {}

    def add(self, arm: str, problem: str) -> None:
        """Note a problem of an arm; a problem that several arms have is shown once, with their names."""
        arms = self.problems.setdefault(problem, [])
        if arm not in arms:
            arms.append(arm)

    def check(self, arm: str, task: DictConfig, *, ranked: bool = True) -> ExperimentConfig | None:
        """Type an arm's config and look at the files it names; None if something is wrong.

        Args:
            ranked: whether the arm needs a value of the success metric: earlier stages of a chain do not.
        """
        try:
            container = resolved(task)
            load_plugins(container.get("plugins") or [])
            config = ExperimentConfig.model_validate(container)
        except ValidationError as error:
            secrets = referenced(str(OmegaConf.to_container(task, resolve=False)))
            for problem in describe_validation(error, ExperimentConfig):
                self.add(arm, scrub(problem, secrets))
            return None
        except (OmegaConfBaseException, ConfigError) as error:
            self.add(arm, str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) else str(error))
            return None
        for problem in self._files(config):
            self.add(arm, problem)
        if ranked and self._data and self._benchmarks:
            from .success_metric import success_metric_problem

            if (unknown := success_metric_problem(config)) is not None:
                self.add(arm, unknown)
        return config

    def raise_if_any(self, n_arms: int) -> None:
        """Raises: ConfigError with all problems."""
        if not self.problems:
            return
        lines = [f"{len(self.problems)} problem(s) in the {n_arms} arm(s) of this experiment; nothing was launched."]
        for problem, arms in list(self.problems.items())[:MAX_SHOWN]:
            whose = arms[0] if len(arms) == 1 else f"{arms[0]} and {len(arms) - 1} more"
            first, *more = problem.splitlines() or [""]
            lines += [f"  - {whose}: {first}", *(f"      {line}" for line in more)]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"  ... and {len(self.problems) - MAX_SHOWN} more")
        raise ConfigError("\n".join(lines))

    def _files(self, config: ExperimentConfig) -> list[str]:
        problems: list[str] = []
        if self._data and config.algorithm.kind != "none":
            from ..training.check import training_problems
            from ..training.rows import check_data

            algorithm = config.algorithm
            problems += self._once(config.data, lambda data: check_data(data, algorithm), algorithm.kind)
            problems += training_problems(config)
        if self._data and config.algorithm.kind in algorithms.builtin and config.inference.kind == "local":
            from ..models import check_model

            problems += self._once(config.model, check_model)
        if self._data and (unusable := getattr(config.inference, "unusable", None)) is not None:
            problems += self._once(config.inference, lambda _: unusable())
        if self._data and getattr(config.algorithm, "sandbox", None) is not None:
            problems += self._once(config.algorithm, _sandbox_problems)
        for entry in config.metadata.benchmark if self._benchmarks else []:
            from ..benchmark.tasks import check_benchmark

            problems += self._once(entry, lambda entry: check_benchmark(entry, config.inference), config.inference.kind)
        return problems

    def _once(self, part: BaseModel, check: Callable[[Any], list[str]], by: str = "") -> list[str]:
        """The problems of a part; `by` says who else's settings they depend on."""
        key = f"{type(part).__name__} {by} ".encode() + orjson.dumps(part.model_dump(mode="json"))
        if key not in self._seen:
            try:
                self._seen[key] = check(part)
            except (ConfigError, DataError) as error:
                self._seen[key] = [str(error)]
        return self._seen[key]


def _sandbox_problems(algorithm: Any) -> list[str]:
    from ..benchmark.sandbox import problem
    from ..benchmark.verification import limits_of

    limits = limits_of(algorithm.sandbox, algorithm.sandbox_limits)
    found = limits and problem(limits)
    return [f"algorithm.sandbox = {algorithm.sandbox!r} cannot hold the answers' code: {found}"] if found else []
