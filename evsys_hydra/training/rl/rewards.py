"""Rewards of answers: benchmarks' registered verifiers, run as benchmarks run them (in processes of their own)."""

from __future__ import annotations

from collections.abc import Sequence

from ...benchmark.pool import pool_for
from ...benchmark.task import InProcess, Task
from ...benchmark.verification import setup_of
from ...benchmark.worker import Job, Outcome
from ...errors import EvaluationError


class Rewards:
    """Verifies answers.

    Args:
        tasks: all tasks that will be asked about.
        time_limit: seconds one verification may take.

    Raises:
        ConfigError: a verifier that can be given to no other process.
    """

    def __init__(self, tasks: Sequence[Task], time_limit: float) -> None:
        self._setup = setup_of(tasks, time_limit)

    def __call__(self, answers: Sequence[tuple[Task, str]]) -> list[Outcome]:
        """The outcome of each answer: a reward in [0, 1], or why there is none.

        Raises:
            EvaluationError: none of them could be verified.
        """
        pool = pool_for(self._setup)
        outcomes: dict[int, Outcome] = {}
        for place, (task, text) in enumerate(answers):
            verifier = task.verifier
            assert isinstance(verifier, InProcess)  # task_problem refused the others
            job = Job(verifier.fn_name, text, verifier.expected, verifier.params)
            pool.submit(job, lambda outcome, place=place: outcomes.__setitem__(place, outcome))  # type: ignore[misc]
        pool.wait()
        found = [outcomes[place] for place in range(len(answers))]
        if all(outcome.reward is None for outcome in found):
            raise EvaluationError(
                f"none of a step's {len(found)} answers could be verified; the first: {found[0].error}"
            )
        return found
