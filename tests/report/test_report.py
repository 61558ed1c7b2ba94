"""report.html: the same as the dashboard's page, bounded, and never in the conclusion's way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.report import write_report
from evsys_hydra.report.curves import group_chart, thin
from evsys_hydra.report.heatmap import heat_maps
from evsys_hydra.report.parallel import parallel
from evsys_hydra.report.records import Curve
from evsys_hydra.report.scale import Scale, round_step
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync
from evsys_hydra.sweep.conclude import conclude

from ..store import making


def main_of(html: str) -> str:
    """The page's text without what differs on purpose: links, forms, charts' data, times."""
    main = html[html.index("<main") : html.index("</main>")]
    main = re.sub(r"<script.*?</script>|<form.*?</form>|<thead>.*?</thead>|<time.*?</time>", "", main, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def parts_of(html: str) -> dict[str, str]:
    """The sections' texts by their titles."""
    found = re.split(r"<section", html[: html.index("</main>")])
    texts = [main_of(f"<main {part}</main>") for part in found[1:]]
    titles = [re.search(r"<h2[^>]*>(.*?)</h2>", part, re.S) for part in found[1:]]
    return {title[1]: text for title, text in zip(titles, texts, strict=True) if title}


def test_report_and_page_show_the_same(tmp_path: Path) -> None:
    record = making.sweep(tmp_path / "exp")
    store = LocalStore(tmp_path / "evsys.db")
    sync(record.directory, store)
    with TestClient(create_app(store), base_url="http://127.0.0.1") as client:
        page = client.get(f"/experiments/{record.id}").text
    report = write_report(record.directory).read_text()
    assert parts_of(report) == parts_of(page)
    assert len(parts_of(report)) >= 6
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", report)
    store.close()


def test_a_report_of_many_arms_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evsys_hydra.report.write.ROWS", 20)
    record = making.experiment(tmp_path / "exp")
    for number in range(60):
        making.run_arm(making.add_arm(record, f"a{number}", group=f"g{number}"), steps=3, tasks=1)
    making.conclude(record)
    report = write_report(record.directory).read_text()
    assert "The first 20 of 60 arms" in report
    assert "The first 8 of 60 groups" in report
    assert "20 lower groups are not shown" in report
    assert len(report) < 1_000_000


def test_a_report_that_fails_leaves_the_conclusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = making.sweep(tmp_path / "exp")
    (record.directory / "report.html").mkdir()  # a file cannot take its place
    result = conclude(record.directory)
    assert result.status == "completed"
    assert (record.directory / "conclusion.md").exists()
    assert "report.html could not be written" in capsys.readouterr().err


def test_thinning_keeps_ends_and_extremes() -> None:
    rng = np.random.default_rng(0)
    steps, values = np.arange(50_000.0), rng.normal(size=50_000)
    values[777], values[40_001] = 50, -50
    kept = thin(Curve("a", steps, values), buckets=100)
    assert len(kept.steps) <= 202 and (np.diff(kept.steps) > 0).all()
    assert (kept.steps[0], kept.steps[-1], kept.values.max(), kept.values.min()) == (0, 49_999, 50, -50)
    assert (kept.values == values[kept.steps.astype(int)]).all()
    short = Curve("a", steps[:150], values[:150])
    assert thin(short, buckets=100) is short


def test_a_groups_band_is_that_of_its_seeds() -> None:
    one = Curve("s0", np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    two = Curve("s1", np.array([0.0, 5.0]), np.array([2.0, 3.0]))
    chart = group_chart({"g": [one, two], "empty": []})
    assert chart["x"] == [0, 5, 10]
    assert chart["series"] == [
        {"label": "g", "y": [1.0, 1.75, 1.0], "seeds": 2, "low": [0.0, 0.5, 1.0], "high": [2, 3, 1]}
    ]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3e-9, 5e-9), (0.24, 0.26), (1e6, 9e6), (-5.0, -4.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = Scale(low, high).ticks()
    assert 2 <= len(ticks) <= 7
    assert all(-1e-6 <= tick.at <= 100 + 1e-6 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)
    assert round_step(0.13) == 0.2


def test_parallel_coordinates_hold_numbers_words_and_gaps() -> None:
    arms = [
        (f"a{n}", {"lr": 10.0**-n, "opt": ("adam", "sgd")[n % 2], "odd": None if n else [1]}, n / 10) for n in range(4)
    ]
    made = parallel(arms, ["lr", "opt", "odd"], "score", minimize=False)
    assert made is not None
    assert [axis.at for axis in made.axes] == [0, 33.333, 66.667, 100]
    assert [line.level for line in made.lines] == [0, 2, 4, 6]
    assert made.lines[0].points.split()[0] == "0.0,0.0" and made.lines[1].points.split()[0] == "0.0,100.0"
    assert {tick.label for tick in made.axes[1].ticks} == {"adam", "sgd"}
    assert parallel(arms[:1], ["lr"], "score", minimize=False) is None


def test_heat_maps_are_means_over_seeds() -> None:
    seeds = [
        {"level": {"10": {"n": 5, "pass_rate": 0.2}, "9": {"n": 3, "pass_rate": 1.0}}},
        {"level": {"10": {"n": 5, "pass_rate": 0.4}}},
    ]
    (made,) = heat_maps({"g": seeds, "none": []}, "bench.pass_rate")
    assert (made.measure, made.columns) == ("pass_rate", [("9", 3), ("10", 5)])
    assert [(round(cell.value or 0, 3), cell.level) for cell in made.rows[0][1]] == [(1.0, 8), (0.3, 0)]
