"""slurm/<generation>.json: which jobs have which arms. Written by the driver, read by everyone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..record.files import read_json, write_json
from .client import tagged

FOLDER = "slurm"


@dataclass
class Chunk:
    """One job array.

    Args:
        first: which of the submission's tasks is its index 0.
        count: how many tasks it has.
        job: id of the array; None until sbatch has answered.
    """

    first: int
    count: int
    job: str | None = None


@dataclass
class Submission:
    """What one generation of an experiment sent to SLURM.

    Args:
        experiment: the experiment's directory.
        experiment_id: its id, by which its jobs are tagged.
        generation: which generation of the experiment.
        tasks: for each task of the arrays, in order, the names of the arms it runs.
        chunks: the arrays.
        ranks: tasks of srun in each job: more than one for distributed arms.
        max_num_timeout: how often an arm that reached its time limit is run again.
        array_parallelism: how many jobs may run at a time.
        finalizer: id of the job that concludes.
        complete: every job of it has been submitted.
    """

    experiment: Path
    experiment_id: str
    generation: int
    tasks: list[list[str]]
    chunks: list[Chunk]
    ranks: int = 1
    max_num_timeout: int = 0
    array_parallelism: int = 256
    finalizer: str | None = None
    complete: bool = False
    folder: str = ""

    @property
    def path(self) -> Path:
        return submission_path(self.experiment, self.generation)

    def save(self) -> None:
        """Write the file."""
        facts = asdict(self)
        del facts["experiment"]
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, facts)

    @classmethod
    def load(cls, experiment: Path, generation: int) -> Submission | None:
        """Read the file of a generation; None if there is none."""
        facts = read_json(submission_path(experiment, generation))
        if facts is None:
            return None
        chunks = [Chunk(**chunk) for chunk in facts.pop("chunks")]
        return cls(experiment=experiment, chunks=chunks, **facts)

    def tag(self, what: object) -> str:
        """What marks a job of this submission: the end of its comment."""
        return f"evsys:{self.experiment_id}:{self.generation}:{what}"

    def jobs(self) -> list[str]:
        """Ids of the arrays that are known."""
        return [chunk.job for chunk in self.chunks if chunk.job is not None]

    def places(self) -> Iterator[tuple[str, str | None, int]]:
        """(arm, id of its array or None, index in it) of every arm."""
        for chunk in self.chunks:
            for index in range(chunk.count):
                for arm in self.tasks[chunk.first + index]:
                    yield arm, chunk.job, index

    def find_lost(self) -> None:
        """Look up arrays whose driver died before it could write their ids down."""
        for number, chunk in enumerate(self.chunks):
            if chunk.job is None:
                found = tagged(self.tag(number))
                if found:
                    chunk.job = found[0].array
        self.save()


def submission_path(experiment: Path, generation: int) -> Path:
    """Where the submission of a generation is written."""
    return experiment / FOLDER / f"{generation}.json"


def submissions(experiment: Path) -> list[Submission]:
    """Every submission of an experiment, oldest first."""
    numbers = sorted(int(path.stem) for path in (experiment / FOLDER).glob("*.json") if path.stem.isdigit())
    found = (Submission.load(experiment, number) for number in numbers)
    return [submission for submission in found if submission is not None]


def latest_places(known: list[Submission]) -> dict[str, tuple[Submission, str | None, int]]:
    """Arm -> where it was submitted last."""
    return {arm: (one, job, index) for one in known for arm, job, index in one.places()}
