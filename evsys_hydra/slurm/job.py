"""What a task of the array runs: `python -m evsys_hydra.slurm.job EXPERIMENT GENERATION FIRST`.

SLURM_ARRAY_TASK_ID says which arms. One arm is supervised; a distributed arm by a supervisor for each rank; several
arms go one after another, or side by side with a GPU each, through a fork server. Completed arms are not run again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..record import ArmView
from .submission import Submission
from .supervisor import Supervisor


def main(experiment: Path, generation: int, first: int) -> int:
    """Run the arms of this job; returns 0 if all of them completed, else what SLURM shall show as FAILED."""
    submission = Submission.load(experiment, generation)
    if submission is None:
        print(f"{experiment} has no submission {generation}", file=sys.stderr)
        return 1
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them takes a tenth of a short arm
    names = submission.tasks[first + int(os.environ["SLURM_ARRAY_TASK_ID"])]
    directories = [experiment / "arms" / name for name in names]
    missing = [directory for directory in directories if ArmView(directory).status.get("state") != "completed"]
    if not missing:
        return 0
    if len(directories) > 1:
        from .several import run_several

        return run_several(experiment, missing, max_num_timeout=submission.max_num_timeout)
    if submission.ranks > 1:
        from .ranks import run_rank

        return run_rank(missing[0], submission.ranks, max_num_timeout=submission.max_num_timeout)
    return Supervisor(missing[0], max_num_timeout=submission.max_num_timeout).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
