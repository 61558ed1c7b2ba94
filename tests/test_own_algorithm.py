"""The example of an algorithm of one's own: the docs show the file, and the experiment runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evsys_hydra.record.files import read_json
from tests.conftest import ROOT

FOLDER = ROOT / "experiments" / "20261123_own_algorithm"


def test_the_how_to_shows_the_file_itself() -> None:
    assert f"```python\n{(FOLDER / 'plugins.py').read_text()}```" in (ROOT / "docs" / "howto.md").read_text()


@pytest.mark.slow
@pytest.mark.model
def test_it_trains_and_is_ranked(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "experiments" / FOLDER.name)
    words = [f"experiments={FOLDER.name}", "store=none", "lr=1e-2", "algorithm.max_steps=20", "benchmark.limit=40"]
    words += ["metadata.compare=null", f"hydra.sweep.dir={tmp_path / 'exp'}"]
    subprocess.run([sys.executable, "-m", "evsys_hydra", *words], cwd=tmp_path, check=True, capture_output=True)
    facts = read_json(tmp_path / "exp" / "conclusion.json")
    assert facts["arms"]["own_algorithm"]["metrics"]["pass_rate"] > facts["verdict"]["references"]["base"]["estimate"]
