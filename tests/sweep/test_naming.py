"""Names of arms: the same arm, the same name; different arms, different names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from evsys_hydra.errors import ConfigError
from evsys_hydra.sweep.naming import arm_and_group, from_template, short_keys, show


def test_names_say_what_was_swept_with_the_seed_last() -> None:
    assert arm_and_group({"seed": 1, "lr": 1e-5}, default="demo") == ("lr=1e-5,seed=1", "lr=1e-5")
    assert arm_and_group({"lr": 1e-5}, default="demo") == ("lr=1e-5", "lr=1e-5")
    assert arm_and_group({"seed": 2}, default="demo") == ("demo,seed=2", "demo")
    assert arm_and_group({}, default="my run") == ("my-run", "my-run")


@given(st.permutations(["lr", "algorithm.batch_size", "model", "seed"]))
def test_the_order_of_the_command_line_does_not_matter(keys: list[str]) -> None:
    values = {"lr": 3e-5, "algorithm.batch_size": 8, "model": "demo", "seed": 0}
    assert arm_and_group({key: values[key] for key in keys}, default="x") == (
        "batch_size=8,lr=3e-5,model=demo,seed=0",
        "batch_size=8,lr=3e-5,model=demo",
    )


def test_keys_with_one_last_part_keep_what_tells_them_apart() -> None:
    assert short_keys(["algorithm.lr", "lr", "model.lora.r"]) == {
        "algorithm.lr": "algorithm.lr",
        "lr": "lr",
        "model.lora.r": "r",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-05, "1e-5"), (0.0001, "0.0001"), (1e16, "1e16"), (True, "true"), (None, "null"), ([1, 2], "1+2"), (3, "3")],
)
def test_values_as_people_write_them(value: object, shown: str) -> None:
    assert show(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_different_numbers_have_different_names(value: float) -> None:
    assert float(show(value)) == value


def test_a_template_is_filled_from_the_config() -> None:
    config = OmegaConf.create({"lr": 1e-5, "seed": 3, "model": {"name": "org/m"}, "algorithm": {"kind": "sft"}})
    assert from_template("{model}-{algorithm}-lr{lr}-s{seed}", config) == "org-m-sft-lr1e-5-s3"
    with pytest.raises(ConfigError, match=r"\{lrr\} is not a field of the config. Fields: lr, seed, model, algorithm"):
        from_template("{lrr}", config)
