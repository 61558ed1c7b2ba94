"""`evsys-hydra validate`: everything that can be known about an experiment before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..registry import algorithms
from .check import Checker
from .compose import Composer
from .dry import EXAMPLES, rendered
from .open import compose, expand_words
from .plan import Arm, plan
from .power import expected_power
from .session import repeat


@dataclass
class Report:
    """What validating found, for scripts and for people."""

    facts: dict[str, Any]
    text: str


def validate_words(words: Sequence[str]) -> Report:
    """Compose and check the arms that these overrides make.

    Raises:
        ConfigError: every problem of every arm.
    """
    loader, master = compose(list(words))
    overrides, swept = expand_words(loader, master, words)
    repeated = [again for arm in overrides for again in repeat(master, arm)]
    keys = [*swept, *(["seed"] if len(repeated) > len(overrides) else [])]
    arms = plan(Composer(loader, master), repeated, swept_keys=keys, known={}, checker=Checker(), baselines=True)
    power = expected_power(arms, Path("outputs") / str(master.name))
    examples = _examples(arms[0])
    facts = {
        "arms": [{"name": arm.name, "group": arm.group, "seed": arm.config.seed, "role": arm.role} for arm in arms],
        "power": power,
        "examples": examples,
    }
    return Report(facts, _text(arms, power, examples))


def _examples(arm: Arm) -> list[str]:
    """A few training rows as the model will see them."""
    from ..training.rows import load_rows

    algorithm = arm.config.algorithm
    if algorithm.kind not in algorithms.builtin or algorithm.kind == "none":
        return []
    return rendered(arm.config, load_rows(arm.config.data, algorithm)[:EXAMPLES])


def _text(arms: Sequence[Arm], power: dict[str, Any] | None, examples: Sequence[str]) -> str:
    seeds = Counter(arm.group for arm in arms if arm.role == "arm")
    lines = [f"{sum(seeds.values())} arm(s) in {len(seeds)} group(s); all configs are valid, nothing was launched."]
    lines += [f"  {group}  {count} seed(s)" for group, count in seeds.items()]
    lines += [f"  {arm.name}  (the untrained model)" for arm in arms if arm.role == "baseline"]
    if power is not None:
        lines += ["", str(power["text"])]
    if examples:
        lines += ["", "Training rows as the model sees them; what it is trained on is marked:"]
        lines += [f"  {line}" for example in examples for line in example.splitlines()]
    return "\n".join(lines)
