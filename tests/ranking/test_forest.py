"""The picture is drawn for every kind of verdict, twice the same, without pyplot's global state."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evsys_hydra.ranking import forest_plot, rank

from .tables import Table, logistic_world, make_table, scalar_table
from .test_cases import binary, reference_table


def many() -> Table:
    return make_table(*logistic_world(np.random.default_rng(0), 70, 30))


def failed() -> Table:
    table = make_table(binary([3], 10))
    table["arms"][0]["status"] = "failed"
    return table


@pytest.mark.parametrize(
    "table",
    [
        make_table(binary([30], 40)),
        make_table(binary([30, 10], 40), ["a" * 90, "b"], baseline="b"),
        make_table(binary([3, 1], 4)),
        reference_table(),
        scalar_table({"a": [0.2], "b": [0.9]}),
        many(),
        failed(),
    ],
    ids=["one", "winner", "few tasks", "references", "scalars", "seventy", "nothing"],
)
@pytest.mark.slow
def test_every_verdict_has_a_picture(table: Table, tmp_path: Path) -> None:
    verdict = rank(table)
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    forest_plot(verdict, png, svg)
    data = png.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert width == 1600 and height >= 400
    assert b"</svg>" in svg.read_bytes()
    again, again_svg = tmp_path / "b.png", tmp_path / "b.svg"
    forest_plot(verdict, again, again_svg)
    assert again.read_bytes() == data
    assert again_svg.read_bytes() == svg.read_bytes()


def test_more_groups_make_a_taller_picture(tmp_path: Path) -> None:
    heights = []
    for n in (2, 10, 50):
        forest_plot(rank(make_table(*logistic_world(np.random.default_rng(1), n, 30))), tmp_path / "a.png")
        heights.append(struct.unpack(">I", (tmp_path / "a.png").read_bytes()[20:24])[0])
    assert heights[0] < heights[1] < heights[2]


def test_pyplot_is_not_touched(tmp_path: Path) -> None:
    code = (
        "import sys; from evsys_hydra.ranking import forest_plot, rank; import json;"
        "forest_plot(rank(json.loads(sys.argv[1])), sys.argv[2]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    import json

    table = json.dumps(make_table(binary([5, 3], 10)))
    subprocess.run([sys.executable, "-c", code, table, str(tmp_path / "a.png")], check=True)
