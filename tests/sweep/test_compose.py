"""Composing many arms fast gives what Hydra's own composition gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from evsys_hydra.errors import ConfigError
from evsys_hydra.sweep.compose import Composer
from evsys_hydra.sweep.open import compose

CHOICES = {
    "model": st.sampled_from(["demo", "hf", "lora"]),
    "algorithm": st.sampled_from(["sft", "none"]),
    "data": st.sampled_from(["demo", "file", "rows"]),
    "benchmark": st.sampled_from(["demo", "folder"]),
}
VALUES = st.one_of(
    st.floats(1e-6, 1.0).map(lambda value: f"lr={value!r}"),
    st.integers(0, 99).map(lambda value: f"seed={value}"),
    st.integers(1, 99).map(lambda value: f"metadata.benchmark.limit={value}"),
    st.integers(1, 99).map(lambda value: f"benchmark.max_tokens={value}"),
    st.sampled_from(["a", "b c", "ü"]).map(lambda text: f"metadata.hypothesis='{text}'"),
    st.sampled_from(["tags=[x,y]", "+algorithm.extra={a:1}", "~metadata.tags", "model.name=x", "name=other"]),
    st.sampled_from(["+hydra.job.env_set.A='1'", "++lr=0.5"]),
)


@cache
def master() -> tuple[ConfigLoader, DictConfig]:
    return compose(["seed=5", "hydra.sweep.dir=somewhere"])


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False, enum_to_str=True)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=CHOICES),
    st.lists(VALUES, max_size=4, unique_by=lambda word: word.split("=")[0]),
)
def test_the_same_result_as_hydra(choices: dict[str, str], values: list[str]) -> None:
    loader, config = master()
    words = [f"{group}={choice}" for group, choice in choices.items()] + values
    composed = Composer(loader, config).compose(words)
    expected = plain(loader.load_sweep_config(config, words))
    assert composed.hydra == expected.pop("hydra")
    assert plain(composed.task) == expected


def test_arms_do_not_share_state() -> None:
    composer = Composer(*master())
    first, second = composer.compose(["lr=1"]), composer.compose(["lr=2", "tags=[a]"])
    assert (first.task.lr, second.task.lr, list(first.task.tags)) == (1, 2, [])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model=demoo", "Available options in 'model'"),
        ("modle=demo", "modle: unknown field .did you mean 'model'"),
        ("lr", "missing EQUAL"),
        ("algorithm.batch=1", "algorithm.batch: unknown field .did you mean 'batch_size'"),
    ],
)
def test_an_override_that_does_not_fit_is_named_with_what_would(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Composer(*master()).compose([word])
