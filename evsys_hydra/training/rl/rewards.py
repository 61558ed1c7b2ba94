"""Rewards of answers: benchmarks' registered verifiers, run as benchmarks run them (in processes of their own)."""

from __future__ import annotations

from collections.abc import Sequence

from ...benchmark import sandbox
from ...benchmark.pool import pool_for
from ...benchmark.sandbox import Limits
from ...benchmark.task import Task
from ...benchmark.verification import Checked, job_of, runs_code, setup_of
from ...benchmark.worker import Outcome
from ...errors import ConfigError, EvaluationError


class Rewards:
    """Verifies answers.

    Args:
        tasks: all tasks that will be asked about.
        time_limit: seconds one verification may take.
        allowed: what sandboxed programs may use; None: verifiers may run none.

    Raises:
        ConfigError: a verifier that cannot run here, or can be given to no other process.
    """

    def __init__(self, tasks: Sequence[Task], time_limit: float, allowed: Limits | None = None) -> None:
        if allowed is not None and any(map(runs_code, tasks)) and (problem := sandbox.problem(allowed)):
            raise ConfigError(f"algorithm.sandbox = 'bubblewrap' cannot hold the answers' code: {problem}")
        self._setup = setup_of(tasks, time_limit, allowed)

    def __call__(self, answers: Sequence[tuple[Task, str]]) -> list[Outcome]:
        """The outcome of each answer: a reward in [0, 1], or why there is none.

        Raises:
            EvaluationError: none of them could be verified.
        """
        pool = pool_for(self._setup)
        outcomes: dict[int, Outcome] = {}
        for place, (task, text) in enumerate(answers):
            assert isinstance(task.verifier, Checked)  # task_problem refused the others
            job = job_of(task.verifier, text)
            pool.submit(job, lambda outcome, place=place: outcomes.__setitem__(place, outcome))  # type: ignore[misc]
        pool.wait()
        found = [outcomes[place] for place in range(len(answers))]
        if all(outcome.reward is None for outcome in found):
            raise EvaluationError(
                f"none of a step's {len(found)} answers could be verified; the first: {found[0].error}"
            )
        return found
