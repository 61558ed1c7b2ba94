"""How an experiment stands, read from its directory; works while it runs and from any machine that sees the files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO, Any

from ..errors import RecordError
from ..record import ArmView, ExperimentRecord
from ..record.files import read_json
from ..record.queues import arm_views
from .collect import read_arm


def status_facts(directory: Path) -> dict[str, Any]:
    """The experiment and its arms as plain JSON."""
    record = ExperimentRecord.load(directory)
    metric = (record.facts.get("metadata") or {}).get("success_metric")
    arms = [_arm_facts(view, metric) for view in arm_views(record)]
    conclusion = read_json(directory / "conclusion.json") or {}
    fresh = conclusion.get("generation") == record.facts["generation"]
    return {
        "directory": str(directory),
        "id": record.id,
        "name": record.name,
        "success_metric": metric,
        "arms": arms,
        "conclusion": conclusion.get("conclusion") if fresh else None,
        "status": conclusion.get("status") if fresh else "running" if _alive(arms) else "unfinished",
    }


def status_text(facts: dict[str, Any]) -> str:
    """The facts as a table for people."""
    width = max((len(arm["name"]) for arm in facts["arms"]), default=4)
    lines = [f"{facts['name']}  {facts['status']}  {facts['directory']}"]
    for arm in facts["arms"]:
        score = f"{facts['success_metric']}={arm['score']:.4f}" if arm["score"] is not None else ""
        detail = arm["error"] or arm["progress"] or score or arm["queue"]
        cause = f" ({arm['cause']})" if arm["cause"] else ""
        seconds = f"{arm['seconds']:.0f} s" if arm["seconds"] is not None else ""
        first = detail.splitlines()[0] if detail else ""
        lines.append(f"  {arm['name']:{width}}  {arm['state'] + cause:22} {seconds:>8}  {first}")
    if facts["conclusion"]:
        lines += ["", facts["conclusion"]]
    elif facts["status"] == "unfinished":
        lines += ["", f"Finish it: evsys-hydra resume {facts['directory']}"]
    return "\n".join(line.rstrip() for line in lines)


def arm_of(directory: Path, name: str) -> ArmView:
    """The arm of that name.

    Raises:
        RecordError: listing the arms there are.
    """
    record = ExperimentRecord.load(directory)
    if name not in record.arm_names:
        raise RecordError(f"No arm {name!r} in {directory}. Arms: {', '.join(record.arm_names)}")
    return ArmView(record.arm_directory(name))


def follow_log(view: ArmView, out: IO[str], *, every_s: float = 0.3) -> None:
    """Copy what is added to the arm's log until the arm has ended."""
    path = view.directory / "arm.log"
    position = path.stat().st_size if path.exists() else 0
    while True:
        now = ArmView(view.directory)
        ended = now.state in ("completed", "failed") and not now.exit.get("again")  # SLURM runs it again
        if path.exists():
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < position:  # a new attempt's log
                    position = 0
                file.seek(position)
                added = file.read()
            position += len(added)
            out.write(added.decode(errors="replace"))
            out.flush()
        if ended:
            return
        time.sleep(every_s)


def _arm_facts(view: ArmView, metric: str | None) -> dict[str, Any]:
    started = view.status.get("started")
    seconds = time.time() - started if view.state == "running" and started else view.seconds
    return {
        "name": view.name,
        "group": view.group,
        "seed": view.seed,
        "role": view.role,
        "state": view.state,
        "cause": view.cause,
        "error": view.error,
        "attempt": view.attempt,
        "node": view.status.get("node"),
        "job_id": view.status.get("job_id"),
        "queue": view.queue,
        "seconds": seconds,
        "progress": view.progress if view.state == "running" else None,
        "score": read_arm(view).score(metric) if metric and view.state == "completed" else None,
    }


def _alive(arms: list[dict[str, Any]]) -> bool:
    return any(arm["state"] == "running" or arm["queue"] for arm in arms)
