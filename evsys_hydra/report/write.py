"""report.html: the page of an experiment as one file that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from ..record.files import write_atomic
from .directory import DirectoryRecords
from .html import STATIC, render
from .page import experiment_charts, experiment_page

ROWS = 1000
"""Arms in a report's table; all of them are in ranking.csv and on the dashboard."""
SCRIPTS = ("uplot/uPlot.iife.min.js", "charts.js", "app.js")
STYLES = ("uplot/uPlot.min.css", "app.css")


def write_report(directory: Path) -> Path:
    """Write report.html of the experiment in `directory`; gives its path.

    Raises:
        RecordError: there is no experiment.
        OSError: the file cannot be written.
    """
    path = directory / "report.html"
    write_atomic(path, report_html(directory))
    return path


def report_html(directory: Path) -> str:
    """The report: conclusion, forest plot, up to ROWS arms, curves of the highest groups, breakdowns."""
    records = DirectoryRecords(directory)
    page = experiment_page(records, records.experiment(), rows=ROWS)
    charts = experiment_charts(records, page.curve_groups, page.curves)
    script = "\n".join((STATIC / name).read_text() for name in SCRIPTS)
    style = "\n".join((STATIC / name).read_text() for name in STYLES)
    return render(
        "report.html",
        page=page,
        charts=charts,
        linked=False,
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    """What a Content-Security-Policy allows a script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
