"""Sending arms to SLURM so that the end always comes.

The finalizer is queued before the first arm, to start in some seconds whatever happens; when every array is queued, it
is made to wait for them instead. A driver may die between any two of these steps: a finalizer that starts early finds
the jobs by their tag and takes over (see `finalizer`). So nothing is ever held that nobody would release.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..record import ExperimentRecord
from ..record.files import write_atomic
from ..secrets import referenced, scrub
from ..sweep.chain import chains
from .client import SlurmError, call, cancel, max_array_size, queued, sbatch, tagged
from .script import array_text, finalizer_text, log_folder, python
from .submission import FOLDER, Chunk, Submission, submissions

GUARD_S = 10


def submit(experiment: Path, names: Sequence[str], parameters: Mapping[str, Any]) -> Submission:
    """Queue these arms and the job that will conclude the experiment.

    Args:
        names: arms of the experiment, none of which has a job now.
        parameters: `hydra.launcher`, resolved.

    Raises:
        ConfigError: parameters that do not fit together.
        SlurmError: SLURM refused the jobs; those it had taken before run and are concluded.
    """
    record = ExperimentRecord.load(experiment)
    parameters = _without_secrets(record, parameters)
    submission = _planned(record, names, parameters)
    folder = log_folder(parameters)
    folder.mkdir(parents=True, exist_ok=True)
    submission.folder = str(folder)
    texts = [_array(submission, number, parameters) for number in range(len(submission.chunks))]
    submission.save()
    submission.finalizer = queue_finalizer(submission, parameters, {"begin": f"now+{GUARD_S}seconds"})
    submission.save()
    try:
        for number, (chunk, text) in enumerate(zip(submission.chunks, texts, strict=True)):
            script = _script(submission, f"arms-{number}", text)
            chunk.job = sbatch(script, {}, submission.tag(number))
            submission.save()
    except SlurmError:
        if not submission.jobs():
            cancel([submission.finalizer])
        raise
    arm_finalizer(submission, parameters)
    submission.complete = True
    submission.save()
    return submission


def arm_finalizer(submission: Submission, parameters: Mapping[str, Any]) -> None:
    """Make the finalizer wait for every array of the experiment instead of for a moment in time."""
    arrays = [job for one in submissions(submission.experiment) for job in one.jobs()]
    known = {job.array for job in queued(arrays, ended_too=True, patience_s=60)}
    after = "afterany:" + ":".join(job for job in arrays if job in known or job in submission.jobs())
    update = ("scontrol", "update", f"JobId={submission.finalizer}", f"Dependency={after}", "StartTime=now")
    try:
        call(*update, patience_s=60)
    except SlurmError:  # it has started, and will have taken the arrays queued so far for all: send another
        before = {job.array for job in tagged(submission.tag("conclude"))}
        submission.finalizer = queue_finalizer(submission, parameters, {"dependency": after}, before)
        submission.save()


def queue_finalizer(
    submission: Submission, parameters: Mapping[str, Any], options: Mapping[str, str], besides: Collection[str] = ()
) -> str:
    """Submit the job that concludes, `besides` others that were submitted for that; returns its id."""
    tag = submission.tag("conclude")
    command = python("evsys_hydra.slurm.finalizer", submission.experiment, submission.generation)
    script = _script(submission, "conclude", finalizer_text(parameters, command, tag=tag))
    output = str(Path(submission.folder) / "%j_conclude.log")
    return sbatch(script, {**options, "kill-on-invalid-dep": "no", "output": output}, tag, besides)


def finalizer_script(submission: Submission) -> str:
    """The script that `queue_finalizer` wrote."""
    return str(submission.experiment / FOLDER / f"{submission.generation}-conclude.sh")


def _planned(record: ExperimentRecord, names: Sequence[str], parameters: Mapping[str, Any]) -> Submission:
    size = int(parameters.get("arms_per_job") or 1)
    ranks = int(parameters.get("nodes") or 1) * int(parameters.get("tasks_per_node") or 1)
    if size > 1 and ranks > 1:
        raise ConfigError(
            f"hydra.launcher.arms_per_job={size} is for arms of one task each, but nodes * tasks_per_node is {ranks}."
        )
    units = [[stage.name for stage in chain] for chain in chains([record.arm_directory(name) for name in names])]
    if ranks > 1 and (staged := next((unit for unit in units if len(unit) > 1), None)):
        raise ConfigError(
            f"{staged[0]}, {staged[1]}: the stages of a recipe run in one job of one task, but nodes * tasks_per_node "
            f"is {ranks}. For several GPUs of a node use model.processes."
        )
    tasks = [list(itertools.chain(*units[start : start + size])) for start in range(0, len(units), size)]
    arrays = math.ceil(len(tasks) / max(1, max_array_size() - 1))
    length = math.ceil(len(tasks) / arrays)
    chunks = [Chunk(first, min(length, len(tasks) - first)) for first in range(0, len(tasks), length)]
    return Submission(
        experiment=record.directory.absolute(),
        experiment_id=record.id,
        generation=int(record.facts["generation"]),
        tasks=tasks,
        chunks=chunks,
        ranks=ranks,
        max_num_timeout=int(parameters.get("max_num_timeout") or 0),
        array_parallelism=int(parameters.get("array_parallelism") or 256),
    )


def _array(submission: Submission, number: int, parameters: Mapping[str, Any]) -> str:
    chunk = submission.chunks[number]
    command = python("evsys_hydra.slurm.job", submission.experiment, submission.generation, chunk.first)
    parallel = max(1, submission.array_parallelism // len(submission.chunks))
    return array_text(parameters, command, count=chunk.count, parallel=parallel, tag=submission.tag(number))


def _script(submission: Submission, name: str, text: str) -> str:
    path = submission.experiment / FOLDER / f"{submission.generation}-{name}.sh"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, text, durable=False)
    return str(path)


def _without_secrets(record: ExperimentRecord, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `setup` took from the environment stays there: the script on the disk has `${NAME}` for the job's shell."""
    if not parameters.get("setup"):
        return parameters
    names = referenced(str(record.facts.get("launcher")))
    return {**parameters, "setup": [scrub(str(line), names, "${{{}}}") for line in parameters["setup"]]}


def say(text: str) -> None:
    """Tell the person in front of the terminal, if there still is one."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return
