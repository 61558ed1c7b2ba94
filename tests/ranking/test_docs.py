"""docs/ranking.md: its code runs, and it names every field of the table and of the verdict."""

import re
from pathlib import Path

import numpy as np
import pytest

from evsys_hydra.ranking import rank
from evsys_hydra.ranking.table import ARM_FIELDS, METRIC_FIELDS, TABLE_FIELDS

from .tables import make_table

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ranking.md").read_text()


def test_the_code_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert "lr=1e-4 is the best of 3 groups" in capsys.readouterr().out


def test_every_field_is_documented() -> None:
    verdict = rank(make_table(np.eye(8)[:2]))
    fields = [f"metric.{f}" for f in METRIC_FIELDS] + [f"arms[].{f}" for f in ARM_FIELDS]
    fields += [f for f in TABLE_FIELDS if f not in ("metric", "arms")] + list(verdict)
    assert [field for field in fields if f"`{field}`" not in TEXT] == []
