"""Scoring a client on a benchmark: prompts, samples, verification, prediction rows, metrics.

Everything streams: an answer is verified while others are generated, and its row is on disk when it is verified, so a
killed evaluation goes on at its first missing sample. Answers whose verifier has been edited since, or failed, are
verified again without being generated again. What fails costs a prediction, never the evaluation.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..causes import describe
from ..config import BenchmarkConfig
from ..errors import ConfigError
from ..inference.client import InferenceClient, Request, Result
from .answered import Answered
from .breakdown import breakdowns
from .choices import choice_problems
from .judge import JudgeFactory, Judges
from .metrics import TaskSamples, compute
from .pool import VerifierPool, pool_for
from .predictions import UNVERIFIED, PredictionFile, SampleKey, fingerprint, prediction_row, sample_seed
from .results import BenchmarkScore, PredictionRow
from .task import InProcess, LlmJudge, Task
from .tasks import Benchmark
from .verification import Checked, job_of, limits_of, setup_of, unusable, versions_of
from .worker import Outcome

PROGRESS_EVERY_S = 1.0
OnProgress = Callable[[int, int], None]
Rows = dict[SampleKey, PredictionRow]


class Rounds(Protocol):
    """In which order tasks are scored, and how far (see adaptive.py)."""

    def parts(self, tasks: Sequence[Task]) -> Sequence[Sequence[Task]]:
        """The tasks in rounds."""

    def go_on(self, part: Sequence[Task], rows: Mapping[SampleKey, PredictionRow]) -> bool:
        """Whether there is to be another round after this one.

        Args:
            rows: every row so far, by task id and sample.
        """


@dataclass(frozen=True)
class Sample:
    """One generation to be made for one task."""

    task: Task
    index: int

    @property
    def key(self) -> SampleKey:
        """What names it among the benchmark's samples."""
        return self.task.task_id, self.index


def score(
    benchmark: Benchmark,
    client: InferenceClient,
    entry: BenchmarkConfig,
    *,
    seed: int = 0,
    predictions: Path | None = None,
    on_progress: OnProgress | None = None,
    identity: str | None = None,
    resume: bool = True,
    judge: JudgeFactory | None = None,
    rounds: Rounds | None = None,
    scrub: Callable[[str], str] = str,
) -> BenchmarkScore:
    """Score a client on a benchmark.

    Args:
        seed: with task and sample it gives each sample's own seed.
        predictions: file of the prediction rows; samples in it are not generated again (see PredictionFile).
        on_progress: called with (samples done, samples in all), at most once a second and at the end.
        identity: what is scored, for resuming; None: the client's own `identity`. Without either, nothing in the file
            counts: it may be another model's.
        resume: False: what is in the file does not count.
        judge: opens the client of a judge model; None: by the environment (see judge.py).
        rounds: scores the tasks in its order, round by round, and no further than it says; None: all at once.
        scrub: takes secrets out of the errors that clients and verifiers give.

    Returns:
        The score; `error` is set if nothing could be scored or rows could not be written.

    Raises:
        ConfigError: tasks with a verifier that cannot run here, an unknown metric.
        EvaluationError: verifiers that cannot be loaded.
    """
    started = time.monotonic()
    tasks = list(benchmark.tasks[: entry.limit])
    allowed = limits_of(entry.sandbox, entry.sandbox_limits)
    if problems := [*unusable(tasks, allowed, benchmark.places), *choice_problems(tasks, entry)]:
        raise ConfigError("\n".join(problems))
    who = identity or getattr(client, "identity", None)
    mark = fingerprint(entry, benchmark.hash, seed, who)
    file = PredictionFile(predictions, mark, versions_of(tasks), resume=resume and who is not None)
    every = [Sample(task, index) for task in tasks for index in range(entry.num_samples)]

    def scored(samples: Sequence[Sample], answers: InferenceClient, into: PredictionFile) -> Rows:
        local = any(isinstance(task.verifier, Checked) for task in tasks)
        pool = pool_for(setup_of(tasks, entry.verifier_timeout, allowed)) if local else None
        asked = {task.verifier.judge_model for task in tasks if isinstance(task.verifier, LlmJudge)}
        before = len(file.kept) + made
        scorer = _Scorer(samples, into, pool, Judges(asked, judge), scrub, on_progress, len(every), before)
        return scorer.run(answers, [_request(sample, entry, seed) for sample in samples])

    made = 0
    if again := [sample for sample in every if sample.key in file.unverified]:
        answered = Answered([file.unverified[sample.key] for sample in again])
        file.verified(scored(again, answered, PredictionFile(None, mark, file.versions)))
    rows, done = dict(file.kept), set[str]()
    for part in [tasks] if rounds is None else rounds.parts(tasks):
        samples = [Sample(task, index) for task in part for index in range(entry.num_samples)]
        if missing := [sample for sample in samples if sample.key not in file.kept]:
            rows.update(scored(missing, client, file))
            made += len(missing)
        done.update(task.task_id for task in part)
        if rounds is not None and not rounds.go_on(part, rows):
            break
    samples = [sample for sample in every if sample.task.task_id in done]
    tasks = [task for task in tasks if task.task_id in done]
    ordered = [rows[sample.key] for sample in samples]
    if on_progress is not None:
        with contextlib.suppress(OSError):
            on_progress(len(samples), len(samples))
    return _scored(benchmark, entry, tasks, ordered, file, started, len(samples) - made, client)


class _Scorer:
    """Takes results as they come, has them verified, writes their rows."""

    def __init__(
        self,
        samples: Sequence[Sample],
        file: PredictionFile,
        pool: VerifierPool | None,
        judges: Judges,
        scrub: Callable[[str], str],
        on_progress: OnProgress | None,
        total: int,
        before: int,
    ) -> None:
        self._samples = samples
        self._file = file
        self._pool = pool
        self._judges = judges
        self._scrub = scrub
        self._on_progress = on_progress
        self._total = total
        self._before = before
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self._rows: Rows = {}
        self._said = time.monotonic()
        self._stopped = False

    def run(self, client: InferenceClient, requests: Sequence[Request]) -> Rows:
        """Generate, verify and write every sample; the rows by task and sample."""
        lost = "the client gave no result"
        results: Sequence[Result] = ()
        try:
            results = client.generate(requests, self._take)
        except Exception as error:
            lost = describe(error)
        except BaseException:  # stopped from outside: what is done stays on disk, what is being verified is dropped
            with self._lock:
                self._stopped = True
                self._file.close()
            raise
        for index in range(len(self._samples)):  # a client need not call back, and may give up in the middle
            self._take(index, results[index] if index < len(results) else Result(error=lost))
        if self._pool is not None:
            self._pool.wait()
        self._judges.wait()
        self._file.close()
        return self._rows

    def _take(self, index: int, result: Result) -> None:
        with self._lock:
            if index in self._seen:
                return
            self._seen.add(index)
        if not isinstance(result, Result):  # a client of the user's own
            result = Result(error=f"TypeError: the client gave a {type(result).__name__}, not a Result")
        elif not isinstance(result.text, str):
            wrong = f"TypeError: the client gave a text that is a {type(result.text).__name__}, not a str"
            result = Result(error=result.error or wrong)
        result.text = result.text.encode(errors="replace").decode()  # a lone surrogate could not be written
        verifier = self._samples[index].task.verifier
        if result.error is not None:
            self._finish(index, result, Outcome(None, result.error))
        elif isinstance(verifier, Checked) and self._pool is not None:
            job = job_of(verifier, result.text, result.choice_logprobs)
            self._pool.submit(job, lambda outcome: self._finish(index, result, outcome))
        elif isinstance(verifier, LlmJudge):
            task = self._samples[index].task
            self._judges.submit(task, verifier, result.text, lambda outcome: self._finish(index, result, outcome))

    def _finish(self, index: int, result: Result, outcome: Outcome) -> None:
        sample = self._samples[index]
        facts: dict[str, Any] = {
            "latency_s": round(result.latency_s, 6),
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.completion_tokens,
            "finish_reason": result.finish_reason,
            **({"choice_logprobs": list(result.choice_logprobs)} if result.choice_logprobs else {}),
            **result.extras,
            **(outcome.facts or {}),
        }
        if (version := self._file.versions.get(sample.task.task_id)) is not None:
            facts["verifier"] = version
        if outcome.error is not None and result.error is None:
            facts[UNVERIFIED] = True
        error = None if outcome.error is None else self._scrub(outcome.error)
        row = prediction_row(self._file.mark, sample.task, sample.index, result.text, outcome.reward, error, facts)
        with self._lock:
            if self._stopped:
                return
            self._rows[sample.key] = row
            self._file.write(row)
            due = self._on_progress is not None and time.monotonic() - self._said >= PROGRESS_EVERY_S
            if due:
                self._said = time.monotonic()
                done = self._before + len(self._rows)
        if due and self._on_progress is not None:
            with contextlib.suppress(OSError):  # a full disk: the row is what counts
                self._on_progress(done, self._total)


def _request(sample: Sample, entry: BenchmarkConfig, seed: int) -> Request:
    template = entry.chat_template
    system = template.system_prompt if sample.task.system_prompt is None else sample.task.system_prompt
    instruction = sample.task.instruction
    if template.user_template is not None:
        instruction = template.user_template.replace("{instruction}", instruction)
    messages = [{"role": "system", "content": system}] if system else []
    return Request(
        messages=[*messages, {"role": "user", "content": instruction}],
        max_tokens=sample.task.max_tokens or entry.max_tokens,
        temperature=entry.temperature,
        stop=(*entry.stop, *(sample.task.stop or ())),
        seed=sample_seed(seed, sample.task.task_id, sample.index),
        enable_thinking=template.enable_thinking,
        choices=sample.task.choices or (),
        choice_delimiter=" " if sample.task.choice_delimiter is None else sample.task.choice_delimiter,
        choice_norm=sample.task.choice_norm,
    )


def _scored(
    benchmark: Benchmark,
    entry: BenchmarkConfig,
    tasks: Sequence[Task],
    rows: list[PredictionRow],
    file: PredictionFile,
    started: float,
    resumed: int,
    client: InferenceClient,
) -> BenchmarkScore:
    score = BenchmarkScore(entry.name or benchmark.name, predictions=rows, benchmark_hash=benchmark.hash)
    rewards = score.per_task
    samples = [TaskSamples(task.task_id, rewards[task.task_id], task.metadata) for task in tasks]
    score.metrics = compute(samples, entry.metrics)
    score.breakdowns = breakdowns(samples, entry.breakdown_keys)
    score.resumed = resumed
    score.facts = dict(getattr(client, "facts", None) or {})
    names = {task.task_id: task.verifier.fn_name for task in tasks if isinstance(task.verifier, InProcess)}
    if versions := {names[task_id]: version for task_id, version in file.versions.items() if task_id in names}:
        score.facts["verifiers"] = versions
    errors = [row["error"] for row in rows if row["error"] is not None]
    if len(errors) == len(rows):
        score.error = f"none of {len(rows)} predictions could be scored; the first: {errors[0]}"
    score.error = score.error or file.error
    score.eval_seconds = time.monotonic() - started
    return score
