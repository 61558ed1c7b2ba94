"""Resolving fast gives what OmegaConf gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evsys_hydra.resolve import followed, resolved

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(
        ["x", "???", "a ${a} b", "${a}", "${a.b}", "${b}", "${c.a}", "${oc.select:a.b,null}", "$", "\\${a}"]
    ),
    st.sampled_from(
        ["${oc.select:zz,[]}", "${oc.select:b,3}", "${oc.select:c.zz,0.5}", "${oc.env:HOME}", "${.a}", "${zz}"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VALUES))
def test_the_same_as_omegaconf(config: dict[str, object]) -> None:
    try:
        task = OmegaConf.create(config)
        expected = OmegaConf.to_container(task, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError, ValueError) as error:
        with pytest.raises((OmegaConfBaseException, RecursionError, ValueError)):
            resolved(OmegaConf.create(config))
        assert error is not None
    else:
        assert isinstance(task, DictConfig)
        assert resolved(task) == expected


def test_a_config_to_be_looked_at_keeps_what_leads_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-secret")
    config = {
        "lr": 1e-5,
        "algorithm": {"lr": "${lr}", "betas": ["${lr}", 2]},
        "name": "${oc.select:title,null}",
        "key": "${oc.env:KEY}",
        "again": "${key}",
        "sum": "lr is ${lr}",
        "all": "${algorithm}",
        "missing": "???",
    }
    assert followed(config) == {
        "lr": 1e-5,
        "algorithm": {"lr": 1e-5, "betas": [1e-5, 2]},
        "name": None,
        "key": "${oc.env:KEY}",
        "again": "${key}",
        "sum": "lr is ${lr}",
        "all": {"lr": 1e-5, "betas": [1e-5, 2]},
        "missing": "???",
    }
