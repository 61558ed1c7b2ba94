"""The job that concludes: `python -m evsys_hydra.slurm.finalizer EXPERIMENT GENERATION`.

It starts when the last arm has ended, or early if its driver died while it submitted; then it queues a successor that
waits for whatever was submitted. Everything it does may be done twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .client import SlurmError, queued, sbatch, tagged
from .settle import settle
from .submission import Submission, submission_path, submissions
from .submit import finalizer_script

DRIVER_SILENT_S = 6.0
POLL_S = 5.0
STORE_PATIENCE_S = 30.0


def main(experiment: Path, generation: int) -> int:
    """Conclude if every arm of the experiment has ended, else see to it that somebody will."""
    from ..sweep.catch_up import catch_up
    from ..sweep.conclude import conclude

    _await_driver(experiment, generation)
    known = submissions(experiment)
    if not known or known[-1].generation > generation:
        print("a later submission has a finalizer of its own")
        return 0
    if not known[-1].complete:
        known[-1].find_lost()
    arrays = [job for one in known for job in one.jobs()]
    alive = queued(arrays, patience_s=300)
    if alive:
        if _succeed(known[-1], sorted({job.array for job in alive})):
            return 0
        while alive:  # a cluster whose nodes may not submit jobs
            time.sleep(POLL_S)
            alive = queued(arrays, patience_s=300)
    settle(experiment, set(), final=True)
    result = conclude(experiment)
    print(result.conclusion, flush=True)
    print("\n".join(catch_up(experiment, budget_s=STORE_PATIENCE_S)), flush=True)
    return 0


def _await_driver(experiment: Path, generation: int) -> None:
    """A driver that is slow to submit is given time for as long as it goes on writing."""
    path = submission_path(experiment, generation)
    before, since = b"", time.monotonic()
    while time.monotonic() - since < DRIVER_SILENT_S:
        submission = Submission.load(experiment, generation)
        if submission is None or submission.complete:
            return
        now = path.read_bytes()
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.5)


def _succeed(submission: Submission, arrays: Sequence[str]) -> bool:
    """Queue the same job again, behind the arrays that are alive."""
    options = {"dependency": "afterany:" + ":".join(arrays), "kill-on-invalid-dep": "no"}
    options["output"] = str(Path(submission.folder) / "%j_conclude.log")
    tag = submission.tag("conclude")
    try:
        before = {job.array for job in tagged(tag)}  # this job is one of them
        submission.finalizer = sbatch(finalizer_script(submission), options, tag, before)
    except SlurmError as error:
        print(f"waiting here, because no further job can be submitted: {error}")
        return False
    submission.complete = True
    submission.save()
    print(f"queued {submission.finalizer} after {', '.join(arrays)}")
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
