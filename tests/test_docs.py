"""The docs are true: links lead somewhere, code runs, the reference is up to date, every shipped config composes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evsys_hydra.errors import ConfigError
from evsys_hydra.sweep.open import compose
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
OPTIONS = sorted(
    f"{path.parent.relative_to(ROOT / 'conf')}={path.stem}"
    for path in (ROOT / "conf").glob("*/*.yaml")
    if path.parent.name != "hydra"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_config_reference_is_up_to_date() -> None:
    subprocess.run([sys.executable, "scripts/make_config_docs.py", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_shipped_option_composes(option: str) -> None:
    _, config = compose([option])
    assert config is not None
    with pytest.raises(ConfigError):
        compose([f"{option}_with_a_typo"])


def test_every_file_of_a_group_begins_with_what_it_is() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


def test_the_benchmark_fields_of_conf_are_those_of_the_type() -> None:
    from omegaconf import OmegaConf

    from evsys_hydra.config import BenchmarkConfig

    blank = OmegaConf.load(ROOT / "conf" / "benchmark" / "blank.yaml")
    metadata = OmegaConf.load(ROOT / "conf" / "metadata" / "default.yaml")
    assert set(blank) == set(metadata.benchmark) == set(BenchmarkConfig.model_fields)


def test_the_python_of_the_how_to_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "howto.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "config.yaml").write_text("name: howto\nstore: {kind: none}\n")
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_commands_of_the_readme_exist() -> None:
    verbs = subprocess.run(["evsys-hydra", "--help"], capture_output=True, text=True, check=True).stdout
    for page in PAGES:
        for verb in re.findall(r"evsys-hydra ([a-z]+)", page.read_text()):
            assert re.search(rf"\b{verb}\b", verbs), f"{page.name}: evsys-hydra {verb}"
