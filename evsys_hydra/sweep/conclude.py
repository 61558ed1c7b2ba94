"""conclude(directory): collect the records, rank the groups, write the conclusion.

One idempotent function; the sweep-end callback, the fork server without a driver, `evsys-hydra conclude` and
`Experiment.run` all call it. It reads nothing but the directory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..ranking import TableError, forest_plot, highest_arm, rank, ranking_rows, write_conclusion
from ..record import ArmView, ExperimentRecord
from ..record.files import read_json, to_json, write_atomic, write_json
from ..record.locks import lock
from ..record.provenance import versions
from ..results import ArmResult, ExperimentResult
from .chain_scores import chain_facts, chains_text
from .collect import lost_to, ranking_table, read_arm
from .dry import dry_facts, dry_text

ENDED = ("completed", "failed")


def conclude(directory: Path) -> ExperimentResult:
    """Derive the conclusion from the records; write conclusion.json and .md, ranking.csv, .png and .svg, report.html.

    Raises:
        RecordError: no experiment there, or the files cannot be written (the conclusion's text is in the message).
    """
    record = ExperimentRecord.load(directory)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    results = [read_arm(view) for view in views]
    ended = [(view, result) for view, result in zip(views, results, strict=True) if view.state in ENDED]
    dry = dry_facts(views, record.facts.get("launcher")) if record.facts.get("dry") else None
    chains = chain_facts(record, views, results) if dry is None else []
    table = ranking_table(record, [view for view, _ in ended], [result for _, result in ended]) if dry is None else None
    verdict, refused = _rank(table)
    own = [result for view, result in zip(views, results, strict=True) if view.role == "arm"]
    metric = (record.facts.get("metadata") or {}).get("success_metric")
    words = _words(own, metric)
    top = highest_arm(verdict, words) if metric and dry is None else None
    best = next((arm for arm in own if top is not None and arm.name == top["name"]), None)
    hypothesis = (record.facts.get("metadata") or {}).get("hypothesis")
    text = dry_text(dry) if dry else _edited(results) + refused + write_conclusion(verdict, words, metric, hypothesis)
    result = ExperimentResult(
        name=record.name,
        status="completed" if any(arm.status == "completed" for arm in own) else "failed",
        arms=own,
        best_arm=best,
        best_score=best.score(metric) if best and metric else None,
        conclusion=text,
        experiment_id=record.id,
        hypothesis=hypothesis,
        ranking=verdict or {},
        stages=[result for view, result in zip(views, results, strict=True) if view.role == "stage"],
    )
    try:
        with _concluding(directory):
            _write(record, result, table, {"chains": chains, **({"dry": dry} if dry else {})})
    except OSError as error:
        raise RecordError(
            f"The conclusion could not be written to {directory}: {error.strerror or error}. "
            f"Mend that and run: evsys-hydra conclude {directory}\nIt says:\n{text}"
        ) from error
    _report(directory)
    return result


def _report(directory: Path) -> None:
    """Write report.html; a report that fails is said, and the conclusion stands."""
    try:
        from ..report import write_report

        write_report(directory)
    except Exception as error:
        print(f"report.html could not be written: {type(error).__name__}: {error}", file=sys.stderr)


def _rank(table: dict[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """The verdict; where the records do not make a table, no verdict and a paragraph that says why."""
    if table is None:
        return None, ""
    try:
        return rank(table), ""
    except TableError as error:
        return None, f"The groups could not be ranked. {error}\n\n"


def _edited(arms: Sequence[ArmResult]) -> str:
    """A paragraph that says which verifiers were edited between the arms' evaluations; empty: none."""
    versions: dict[str, set[str]] = {}
    for arm in arms:
        for row in arm.evals:
            for name, version in (row.facts.get("verifiers") or {}).items() if row.step is None else ():
                versions.setdefault(f"{name} of {row.name}", set()).add(version)
    edited = sorted(name for name, found in versions.items() if len(found) > 1)
    if not edited:
        return ""
    return (
        f"The arms were not all scored by the same verifier: edited in between: {', '.join(edited)}. What they differ "
        "in may be the verifier. Score them alike, without new answers: evsys-hydra eval EXPERIMENT.\n\n"
    )


def _words(arms: Sequence[ArmResult], metric: str | None) -> list[dict[str, Any]]:
    """What the conclusion's writer is told beside the verdict."""
    return [
        {
            "name": arm.name,
            "group": arm.group_name,
            "status": arm.status,
            "score": arm.score(metric) if metric else None,
            "error": arm.error or (arm.primary.error if arm.primary else None),
            "cause": arm.cause,
            "lost_to": lost_to(arm, metric.rsplit(".", 1)[0] if metric and "." in metric else None),
        }
        for arm in arms
    ]


def _write(
    record: ExperimentRecord, result: ExperimentResult, table: dict[str, Any] | None, more: dict[str, Any]
) -> None:
    facts = {
        "experiment_id": record.id,
        "name": record.name,
        "generation": record.facts["generation"],
        "concluded": time.time(),
        "status": result.status,
        "conclusion": result.conclusion,
        "best_arm": result.best_arm.name if result.best_arm else None,
        "best_score": result.best_score,
        "arms": {
            arm.name: {
                "group": arm.group_name,
                "status": arm.status,
                "cause": arm.cause,
                "error": arm.error,
                "metrics": {**arm.metrics, **arm.eval_metrics},
            }
            for arm in result.arms
        },
        "verdict": result.ranking,
        **more,
        "table_sha256": hashlib.sha256(to_json(table)).hexdigest() if table is not None else None,
        "versions": versions(),
    }
    write_atomic(record.directory / "ranking.csv", _csv(ranking_rows(result.ranking) if result.ranking else []))
    picture = ""
    if len(result.ranking.get("ranking") or []) > 1:
        forest_plot(result.ranking, record.directory / "ranking.png", record.directory / "ranking.svg")
        picture = "\n![Forest plot of the ranking](ranking.png)\n"
    page = f"# {record.name}\n\n{result.conclusion}\n{picture}{chains_text(more['chains'])}"
    write_atomic(record.directory / "conclusion.md", page)
    write_json(record.directory / "conclusion.json", facts)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def note_waiting(directory: Path, waiting: int) -> None:
    """Keep in conclusion.json how many records the store does not have yet: known only after it was written."""
    path = directory / "conclusion.json"

    def outdated() -> dict[str, Any] | None:
        facts = read_json(path)
        return facts if isinstance(facts, dict) and facts.get("records_waiting", 0) != waiting else None

    if outdated() is None:
        return
    with _concluding(directory):
        facts = outdated()
        if facts is not None:
            write_json(path, {**facts, "records_waiting": waiting})


@contextmanager
def _concluding(directory: Path) -> Iterator[None]:
    """One concluder at a time writes."""
    fd = lock(directory / ".conclude.lock", wait=True)
    try:
        yield
    finally:
        os.close(fd)
