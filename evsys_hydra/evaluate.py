"""`evsys-hydra eval`: score what arms have trained, on their own benchmarks again or on others, without training.

It goes on where a killed one stopped, adds evals to the arms' records and takes nothing away.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .arm import evaluate_one, identity_of, open_client, trained
from .causes import describe
from .composed import load_plain, typed_config
from .config import BenchmarkConfig, ExperimentConfig
from .errors import ConfigError, EvsysError, RecordError
from .evaluate_benchmarks import Chosen, check_words, chosen, inference
from .problems import describe_validation
from .record import ArmRecord, ArmView, ExperimentRecord
from .record.files import read_json, read_lines
from .record.queues import arm_views
from .results import EvalResult, RunResult

Tell = Callable[[str, str, int, int], None]
RUNNING = "is running now: wait until it has ended (evsys-hydra status), or cancel it"


@dataclass(frozen=True)
class Evaluation:
    """What is to be scored for one arm, checked.

    Args:
        result: what its training gave; its checkpoint is the one to be scored.
        identity: which weights these are.
        cwd: the directory that relative paths of its config are seen from.
    """

    arm: ArmView
    config: ExperimentConfig
    result: RunResult
    identity: str
    benchmarks: list[Chosen]
    step: int | None
    cwd: Path


@dataclass(frozen=True)
class Evaluated:
    """One eval of one arm.

    Args:
        predictions: the file with its prediction rows.
        added: whether it is new in the arm's record; one that failed, or says what is there already, is not added.
    """

    arm: str
    row: EvalResult
    predictions: Path
    added: bool

    @property
    def facts(self) -> dict[str, Any]:
        """For scripts."""
        return {"arm": self.arm, **asdict(self.row), "predictions": str(self.predictions), "added": self.added}


def evaluate(
    arms: Sequence[Path],
    benchmarks: Sequence[str] = (),
    words: Sequence[str] = (),
    *,
    step: int | None = None,
    tell: Tell | None = None,
) -> list[Evaluated]:
    """Score arms' checkpoints, one after the other, in this process.

    Args:
        arms: their directories.
        benchmarks: see `chosen`; empty: each arm's own.
        words: `benchmark.max_tokens=64`, `inference.dtype=float32`.
        step: the training step whose checkpoint is scored; None: what training ended with.
        tell: called with (arm, eval, samples done, samples in all).

    Raises:
        ConfigError: everything that is wrong with any of them, before anything is scored. What goes wrong later, such
            as a checkpoint that cannot be loaded, is the error of its evals.
    """
    check_words(words)
    todo: list[Evaluation] = []
    problems: dict[str, list[str]] = {}
    for arm in arms:
        try:
            todo.append(_checked(arm.resolve(), benchmarks, words, step))
        except EvsysError as error:
            for problem in str(error).splitlines():
                problems.setdefault(problem, []).append(arm.name)
    if problems:
        raise ConfigError("\n".join(f"{', '.join(names)}: {problem}" for problem, names in problems.items()))
    return [evaluated for evaluation in todo for evaluated in _run(evaluation, tell)]


def arms_of(given: Path, experiment: Callable[[Path], Path], within: Path) -> list[Path]:
    """The arms that a word of the command line means.

    Args:
        given: an arm's directory; an experiment's (every completed arm of it); or the name of an arm in `within`.
        experiment: finds an experiment's directory.

    Raises:
        RecordError: it is none of these.
    """
    if (given / "config.yaml").is_file():
        return [given.resolve()]
    if str(given) == "last" or (given / "experiment.json").is_file():
        record = ExperimentRecord.load(experiment(given))
        views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
        return [view.directory for view in views if view.state == "completed" and view.role != "stage"]
    alone = f"A model alone: python -m evsys_hydra algorithm=none model.name={given} benchmark=..."
    try:
        record = ExperimentRecord.load(experiment(within))
    except RecordError as error:
        raise RecordError(f"{given} is no arm's and no experiment's directory. {error}\n{alone}") from error
    if str(given) not in record.arm_names:
        known = ", ".join(record.arm_names)
        raise RecordError(f"No arm {str(given)!r} in {record.directory}. Arms: {known}\n{alone}")
    return [record.arm_directory(str(given))]


def conclude_again(experiment: Path) -> str:
    """Conclude an experiment whose arms have all ended once more, and say what became of the conclusion."""
    from .sweep.conclude import conclude

    views = arm_views(ExperimentRecord.load(experiment))
    open_ = [view.name for view in views if view.state in ("running", "pending")]
    if open_:
        return f"Not concluded: {', '.join(open_)} not ended. As it stands now: evsys-hydra conclude {experiment}"
    before = (read_json(experiment / "conclusion.json") or {}).get("conclusion")
    text = conclude(experiment).conclusion
    return "The conclusion is as it was." if text == before else f"The conclusion now:\n\n{text}"


def _checked(arm: Path, benchmarks: Sequence[str], words: Sequence[str], step: int | None) -> Evaluation:
    record = ExperimentRecord.load(arm.parent.parent)
    view = next((view for view in arm_views(record) if view.directory.resolve() == arm), ArmView(arm))
    if view.state == "running":
        raise RecordError(RUNNING)
    cwd = Path(record.facts.get("cwd") or ".")
    cwd = cwd if cwd.is_dir() else Path.cwd()
    here = Path.cwd()
    result, identity = _final(view) if step is None else _at_step(view, step)
    with contextlib.chdir(cwd):
        config = _config(view, words)
        return Evaluation(view, config, result, identity, chosen(config, benchmarks, words, here), step, cwd)


def _config(arm: ArmView, words: Sequence[str]) -> ExperimentConfig:
    try:
        config = typed_config(load_plain(arm.directory / "config.yaml"))
    except ValidationError as error:
        raise ConfigError("; ".join(describe_validation(error, ExperimentConfig))) from error
    if config.dry:
        from .sweep.dry import shortened

        config = shortened(config)
    if config.start_from is not None:
        from .starting import start_of

        config = config.model_copy(update={"model": start_of(config, arm.directory).model})
    return config.model_copy(update={"inference": inference(config, words)})


def _final(arm: ArmView) -> tuple[RunResult, str]:
    """What the arm's training ended with."""
    if arm.state != "completed":
        steps = _shown_steps(arm)
        raise RecordError(f"is {arm.state}: there is no final checkpoint. {arm.error or ''} {steps}".strip())
    result = trained(arm.directory)
    if result is None or "checkpoint" not in result.artifacts:
        why = "its algorithm returned none" if result is not None else "its files are gone"
        raise RecordError(f"has no checkpoint to score: {why}. {_shown_steps(arm)}".strip())
    return result, identity_of(result)


def _at_step(arm: ArmView, step: int) -> tuple[RunResult, str]:
    """The checkpoint of a step."""
    kept = _steps(arm)
    if step not in kept:
        raise RecordError(
            f"has no checkpoint of step {step}. {_shown_steps(arm)} "
            "Those of before the end stay if algorithm.save_at or algorithm.save_every_steps is set."
        )
    manifest = (kept[step] / "manifest.json").read_bytes()
    result = RunResult(arm.name, artifacts={"checkpoint": str(kept[step])})
    return result, f"checkpoint {hashlib.sha256(manifest).hexdigest()}"


def _steps(arm: ArmView) -> dict[int, Path]:
    """Step -> its checkpoint, of those that are complete on disk."""
    from .training.checkpoint import problem_of

    paths = {int(event["step"]): arm.directory / str(event["uri"]) for event in arm.events("checkpoint")}
    return {step: path for step, path in paths.items() if problem_of(path) is None}


def _shown_steps(arm: ArmView) -> str:
    steps = sorted(_steps(arm))
    return f"Checkpoints there are: --step {', '.join(map(str, steps))}." if steps else "It has no step's either."


def _run(evaluation: Evaluation, tell: Tell | None) -> list[Evaluated]:
    record = ArmRecord(evaluation.arm.directory)
    try:
        record.reopen()
    except BlockingIOError:
        return _failed(evaluation, record, RUNNING)
    try:
        with contextlib.chdir(evaluation.cwd):
            client = open_client(evaluation.config, evaluation.result, record)
            return [_score(evaluation, one, client, record, tell) for one in evaluation.benchmarks]
    except Exception as error:  # the other arms are scored
        return _failed(evaluation, record, describe(error))
    finally:
        record.close()
        gc.collect()  # the model, before the next arm's is loaded


def _failed(evaluation: Evaluation, record: ArmRecord, error: str) -> list[Evaluated]:
    arm, step = evaluation.arm.name, evaluation.step
    names = [str(one.entry.name) for one in evaluation.benchmarks]
    rows = [EvalResult(name, step=step, error=error) for name in names]
    return [Evaluated(arm, row, record.predictions_path(row.name, step), added=False) for row in rows]


def _score(evaluation: Evaluation, one: Chosen, client: Any, record: ArmRecord, tell: Tell | None) -> Evaluated:
    arm, step = evaluation.arm, evaluation.step
    name = _free_name(evaluation, one, record)
    earlier = _earlier(arm, name, step)
    entry = one.entry.model_copy(update={"name": name, "adaptive": False, **_asked_before(one.entry, earlier)})

    def progress(done: int, total: int) -> None:
        if tell is not None:
            tell(arm.name, name, done, total)

    row = evaluate_one(
        evaluation.config,
        entry,
        client,
        record,
        identity=evaluation.identity,
        benchmark=one.benchmark,
        step=step,
        on_progress=progress,
    )
    said = earlier is not None and _same(earlier, row)
    added = row.error is None and not said
    if added:
        record.event("eval", **asdict(row), settings=entry.model_dump(mode="json"))
    return Evaluated(arm.name, row, record.predictions_path(name, step), added)


def _same(earlier: EvalResult, row: EvalResult) -> bool:
    """Whether a row says what an earlier one says, by the same verifiers."""
    known = earlier.facts.get("verifiers") or row.facts.get("verifiers")
    return (earlier.metrics, earlier.breakdowns, known) == (row.metrics, row.breakdowns, row.facts.get("verifiers"))


def _asked_before(entry: BenchmarkConfig, earlier: EvalResult | None) -> dict[str, list[str]]:
    """Metrics and breakdowns of the same samples that were asked for before: they stay, computed from them anew."""
    if earlier is None:
        return {}
    return {
        "metrics": list(dict.fromkeys([*entry.metrics, *earlier.metrics])),
        "breakdown_keys": list(dict.fromkeys([*entry.breakdown_keys, *earlier.breakdowns])),
    }


def _free_name(evaluation: Evaluation, one: Chosen, record: ArmRecord) -> str:
    """The eval's name; with a mark of its own if other tasks, settings or weights have taken the name."""
    from .benchmark.predictions import fingerprint

    entry, step = one.entry, evaluation.step
    mark = fingerprint(entry, one.benchmark.hash, evaluation.config.seed, evaluation.identity)
    wanted = {
        (task.task_id, index) for task in one.benchmark.tasks[: entry.limit] for index in range(entry.num_samples)
    }
    rows = list(read_lines(record.predictions_path(str(entry.name), step)))
    there = {(row.get("task_id"), row.get("sample_idx")) for row in rows}
    marked = all((row.get("metadata") or {}).get("eval") == mark for row in rows)
    earlier = _earlier(evaluation.arm, str(entry.name), step)
    stopped = earlier is not None and bool((earlier.facts.get("adaptive") or {}).get("lost_to"))  # to be finished now
    same = there == wanted or (stopped and there <= wanted)
    if marked and (earlier is None or (same if rows else earlier.benchmark_hash == one.benchmark.hash)):
        return str(entry.name)
    scope = f"{mark} {entry.limit} {entry.num_samples}"
    return f"{entry.name}-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def _earlier(arm: ArmView, name: str, step: int | None) -> EvalResult | None:
    from .sweep.collect import read_arm

    rows = read_arm(ArmView(arm.directory)).evals
    found = [row for row in rows if (row.name, row.step) == (name, step) and row.model is None]
    return found[-1] if found and found[-1].error is None else None
