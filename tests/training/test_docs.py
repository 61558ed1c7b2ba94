"""The example of docs/training.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evsys_hydra import registry
from evsys_hydra.config import typed
from evsys_hydra.models import load_model

from .parts import make_context

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.mark.model
def test_the_users_own_algorithm(tiny: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    plugin = tmp_path / "plugins.py"
    plugin.write_text(code)
    registry.load_plugins([str(plugin)])
    config = typed(registry.algorithms, {"kind": "last_layers", "lr": 1e-2, "steps": 3})
    context = make_context(tmp_path / "arm", tiny)
    result = registry.algorithms.get("last_layers").target(config, context)
    trained, _ = load_model(context.run.model, result.artifacts["checkpoint"])
    before, _ = load_model(context.run.model)
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), trained.parameters(), strict=True)
        if not old.equal(new)
    }
    assert changed and all(name.startswith("model.layers.1.") for name in changed)


def test_every_setting_of_sft_is_in_its_config_file() -> None:
    from omegaconf import OmegaConf

    from evsys_hydra.training.sft_config import SFTConfig

    conf = OmegaConf.load(DOCS.parents[1] / "conf" / "algorithm" / "sft.yaml")
    assert set(conf) == set(SFTConfig.model_fields)
    values = OmegaConf.to_container(OmegaConf.merge({"lr": 1.0}, {"algorithm": conf}), resolve=True)
    assert isinstance(values, dict)
    written = SFTConfig.model_validate(values["algorithm"]).model_dump()
    defaults = SFTConfig(lr=1.0).model_dump()
    assert {key for key in written if written[key] != defaults[key]} == {"max_steps"}
