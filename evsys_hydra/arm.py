"""One arm's life: data, training, checkpoint, evaluation, record.

`run_arm(directory)` is the entry point of every job, wherever it runs: it needs nothing but the arm's directory.
`live(config, record, parts)` is the life itself; `Experiment` calls it in-process with injected parts.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .causes import cause_of, describe
from .composed import typed_config
from .config import BenchmarkConfig, ExperimentConfig, RunConfig
from .errors import EvsysError
from .hydra_job import run_as_job
from .record import ArmRecord, ArmView
from .record.files import read_json, write_json
from .registry import load_plugins
from .results import EvalResult, RunResult

if TYPE_CHECKING:
    from .benchmark import Benchmark, BenchmarkScore
    from .benchmark.scoring import OnProgress
    from .inference.client import InferenceClient, PlainClient

TrainFn = Callable[[ExperimentConfig], list[RunResult]]
InferenceFactory = Callable[[RunResult, RunConfig], "InferenceClient | PlainClient"]

API_ANSWERS = "api_answers"
"""Folder of an experiment where the answers of API models are kept."""
EXIT_FAILED = 1
EXIT_BUSY = 75


@dataclass
class Parts:
    """What a caller may put in place of what the config names; None: as the config says."""

    train_fn: TrainFn | None = None
    benchmark: Benchmark | None = None
    inference_factory: InferenceFactory | None = None


class ArmFailed(EvsysError):
    """A run that ended without completing; its text is the arm's error as it is shown."""


def run_arm(directory: Path, record: ArmRecord | None = None) -> int:
    """Run the arm of a directory in this process, as a Hydra job (logging, env_set, on_job_* callbacks).

    An arm that is completed already is not run again.

    Args:
        record: where a rank of a distributed arm records instead of in the arm's directory.

    Returns:
        The exit code: 0 completed, 1 failed, 75 if another process is running this arm now.
    """
    if ArmView(directory).state == "completed":
        return 0
    record = record or ArmRecord(directory)
    try:
        record.start()
    except BlockingIOError:
        return EXIT_BUSY
    try:
        run_as_job(directory, lambda task: live(typed_config(task), record))
    except BaseException as error:
        fail(record, error)
        return EXIT_FAILED
    return 0


def fail(record: ArmRecord, error: BaseException) -> None:
    """Write down why an arm failed; a record that cannot be written is said on stderr."""
    text = str(error) if isinstance(error, ArmFailed) else describe(error)
    details = record.scrub("".join(traceback.format_exception(error)))
    print(details, flush=True)
    try:
        record.fail(cause_of(error), record.scrub(text), details)
    except OSError as problem:
        print(f"The record of {record.directory} could not be written: {problem}", flush=True)


def live(config: ExperimentConfig, record: ArmRecord, parts: Parts | None = None) -> float | None:
    """Train one arm, evaluate its checkpoint, record everything.

    Returns:
        The arm's success metric, so that Hydra's sweepers can drive it; None without one.

    Raises:
        Whatever training raises; an evaluation that fails is recorded and does not raise.
    """
    parts = parts or Parts()
    if config.dry:
        from .sweep.dry import note, shortened

        note(config, record)
        config = shortened(config)
    config, start = _started(config, record, parts)
    result = _trained(config, record, parts, start)
    started = time.monotonic()
    evals = [] if result.status != "completed" or record.rank else _evaluate(config, result, record, parts)
    seconds = time.monotonic() - started
    record.complete({**_facts(result, record.directory), "eval_seconds": seconds if evals else None})
    return score_of(config, result, evals)


def score_of(config: ExperimentConfig, result: RunResult, evals: list[EvalResult]) -> float | None:
    """The value of the success metric of an arm."""
    from .results import ArmResult

    metric = config.metadata.success_metric
    arm = ArmResult(result.run_id, config.run, "completed", metrics=result.metrics, evals=evals)
    arm.eval_metrics = arm.primary.metrics if arm.primary else {}
    return arm.score(metric) if metric else None


def _started(config: ExperimentConfig, record: ArmRecord, parts: Parts) -> tuple[ExperimentConfig, Path | None]:
    """The config and the checkpoint with which a stage starts where the stage before ended."""
    if config.start_from is None:
        return config, None
    from .starting import Start, directory_of, final_checkpoint, start_of

    if parts.train_fn is not None:
        start = Start(config.model, final_checkpoint(directory_of(config, record.directory)), "given to train_fn")
    else:
        start = start_of(config, record.directory)
    record.event("start", arm=config.start_from.arm, checkpoint=str(start.checkpoint), how=start.how)
    known = config.start_from.model_copy(update={"checkpoint": str(start.checkpoint)})
    return config.model_copy(update={"model": start.model, "start_from": known}), start.checkpoint


def _trained(config: ExperimentConfig, record: ArmRecord, parts: Parts, start: Path | None) -> RunResult:
    """The run's result; an earlier attempt's, if it finished training before it died (all ranks, or none)."""
    kept = trained(record.arm_directory) if parts.train_fn is None else None
    if kept is not None:
        _clear(config, record, kept)
        return kept
    started = time.monotonic()
    if parts.train_fn is not None:
        results = parts.train_fn(config)
        if not results:
            raise ArmFailed(f"train_fn returned no results for arm '{config.arm}'")
        result = results[0]
    else:
        result = _train(config, record, start)
    if result.status != "completed":
        raise ArmFailed(result.error or f"the run ended with status {result.status}")
    result.extras.setdefault("train_seconds", time.monotonic() - started)
    result.extras["trained_by"] = f"attempt {record.attempt} at {time.time()}"
    result.artifacts = {name: _relative(path, record.directory) for name, path in result.artifacts.items()}
    write_json(record.directory / "trained.json", asdict(result))
    record.metrics(int(result.extras.get("steps", 0)), result.metrics, split="summary")
    result = _in_directory(result, record.directory)
    if parts.train_fn is None:
        _clear(config, record, result)
    return result


def _clear(config: ExperimentConfig, record: ArmRecord, result: RunResult) -> None:
    """Remove the checkpoints of a training that is over (its result is on disk)."""
    if "checkpoint" not in result.artifacts:
        return
    from .training.loop_config import LoopConfig

    if isinstance(config.algorithm, LoopConfig):
        from .training.saving import clear

        clear(config.algorithm, record.directory, Path(result.artifacts["checkpoint"]))


def trained(directory: Path) -> RunResult | None:
    """What the training of an arm gave, its artifacts as this process finds them; None if the checkpoint is gone."""
    kept = read_json(directory / "trained.json")
    if kept is None or not _checkpoint_is_there(kept, directory):
        return None
    return _in_directory(RunResult(**kept), directory)


def _train(config: ExperimentConfig, record: ArmRecord, start: Path | None) -> RunResult:
    from . import registry
    from .record import provenance
    from .training.context import TrainContext
    from .training.rows import load_rows, rows_hash

    algorithm = registry.algorithms.get(config.algorithm.kind)
    plugins = {str(path): provenance.file_hash(path) for path in load_plugins(config.plugins)}
    rows = load_rows(config.data, config.algorithm) if config.algorithm.kind != "none" else []
    record.event(
        "provenance",
        data_sha256=rows_hash(rows) if rows else None,
        n_rows=len(rows),
        plugins=plugins,
        hardware=provenance.hardware(),
        versions=provenance.versions(),
        environment={key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS") if key in os.environ},
    )
    context = TrainContext(
        run=config.run,
        rows=rows,
        directory=record.directory,
        record=record,
        start_from=start,
        in_loop=_in_loop(config, record),
    )
    result: RunResult = algorithm.target(config.algorithm, context)
    return result


def _in_loop(config: ExperimentConfig, record: ArmRecord) -> list[Any]:
    entries = [entry for entry in config.metadata.benchmark if entry.run_every is not None]
    if not entries:
        return []
    from .benchmark import Benchmark
    from .benchmark.in_loop import in_loop_eval

    return [
        in_loop_eval(Benchmark.load(entry), entry, seed=config.seed, record=record, inference=config.inference)
        for entry in entries
    ]


def _evaluate(config: ExperimentConfig, result: RunResult, record: ArmRecord, parts: Parts) -> list[EvalResult]:
    """Score the checkpoint on every benchmark; a benchmark that cannot be scored is an eval with an error."""
    entries = config.metadata.benchmark
    if parts.benchmark is not None:
        settings = entries[0] if entries else BenchmarkConfig.model_construct(tags=["test"])
        entries = [settings.model_copy(update={"name": parts.benchmark.name, "path": None, "generate": None})]
    if not entries:
        return []
    from .benchmark.tasks import name_of

    try:
        client = open_client(config, result, record, parts)
    except Exception as error:
        print(record.scrub(traceback.format_exc()), flush=True)
        why = record.scrub(describe(error))
        evals = [EvalResult(name_of(entry), entry.id, tags=entry.tags, error=why) for entry in entries]
    else:
        identity = identity_of(result)
        evals = [
            evaluate_one(config, entry, client, record, identity=identity, benchmark=parts.benchmark)
            for entry in entries
        ]
    for row in evals:
        record.event("eval", **asdict(row))
    return evals


def open_client(
    config: ExperimentConfig, result: RunResult, record: ArmRecord, parts: Parts | None = None
) -> InferenceClient:
    """The client that answers for what an arm trained.

    Raises:
        Whatever opening it raises: a checkpoint that cannot be loaded, a key that is not in the environment.
    """
    from . import registry
    from .inference.plain import as_client

    if parts is not None and parts.inference_factory is not None:
        opened: InferenceClient | PlainClient = parts.inference_factory(result, config.run)
    else:
        settings = config.inference
        if settings.kind == "api" and getattr(settings, "cache", "") is None:  # what was paid for is not asked again
            settings = settings.model_copy(update={"cache": str(_api_answers(record))})
        checkpoint = result.artifacts.get("checkpoint")
        opened = registry.inference.get(settings.kind).target(settings, checkpoint, config.run)
    return as_client(opened)


def _judge(model: str, record: ArmRecord) -> InferenceClient:
    from .benchmark.judge import has_score
    from .inference.api import open_model  # httpx: only for benchmarks that have a judge

    return open_model(model, _api_answers(record), has_score)


def _api_answers(record: ArmRecord) -> Path:
    """Where an experiment keeps what API models have answered."""
    return record.arm_directory.resolve().parent.parent / API_ANSWERS


def identity_of(result: RunResult) -> str:
    """Which training the weights of a result come from: samples of one are not taken for another's."""
    return str(result.extras.get("trained_by"))


def evaluate_one(
    config: ExperimentConfig,
    entry: BenchmarkConfig,
    client: InferenceClient,
    record: ArmRecord,
    *,
    identity: str,
    benchmark: Benchmark | None = None,
    step: int | None = None,
    on_progress: OnProgress | None = None,
) -> EvalResult:
    """Score one benchmark; samples that were scored before for the same trained weights are kept.

    Args:
        identity: the trained weights.
        benchmark: the entry's, where it is known already.
        step: of the checkpoint; None: what training ended with.
        on_progress: called with (samples done, samples in all); None: progress goes into the record.

    Returns:
        The eval; with an error if the benchmark could not be scored. Never raises for what scoring does.
    """
    from .benchmark import Benchmark
    from .benchmark.scoring import score
    from .benchmark.tasks import name_of

    started, name = time.monotonic(), name_of(entry)
    try:
        benchmark = benchmark or Benchmark.load(entry)
        rounds = None
        if entry.adaptive and step is None:
            from .adaptive import Adaptive  # numpy and scipy, which no other evaluation waits for

            rounds = Adaptive(config, entry, record, benchmark.hash)
        scored: BenchmarkScore = score(
            benchmark,
            client,
            entry,
            seed=config.seed,
            predictions=record.predictions_path(name, step),
            identity=identity,
            on_progress=on_progress or (lambda done, total: record.progress(f"eval {name}", done, total)),
            judge=lambda model: _judge(model, record),
            rounds=rounds,
            scrub=record.scrub,
        )
    except Exception as error:
        print(record.scrub(traceback.format_exc()), flush=True)
        return EvalResult(name, entry.id, step=step, tags=entry.tags, error=record.scrub(describe(error)))
    return EvalResult(
        name=name,
        benchmark_id=entry.id,
        benchmark_hash=scored.benchmark_hash,
        metrics=scored.metrics,
        breakdowns=scored.breakdowns,
        eval_seconds=time.monotonic() - started,
        step=step,
        tags=entry.tags,
        error=scored.error,
        facts={**scored.facts, **({"adaptive": rounds.facts} if rounds is not None else {})},
    )


def _facts(result: RunResult, directory: Path) -> Mapping[str, Any]:
    return {
        "status": result.status,
        "metrics": result.metrics,
        "artifacts": {name: _relative(path, directory) for name, path in result.artifacts.items()},
        "train_seconds": result.extras.get("train_seconds"),
    }


def _relative(path: str, directory: Path) -> str:
    """A path below the arm's directory as seen from there, so that the whole experiment can be moved."""
    absolute = Path(path).resolve()
    inside = absolute.is_relative_to(directory.resolve()) and absolute.exists()
    return str(absolute.relative_to(directory.resolve())) if inside else path


def _in_directory(result: RunResult, directory: Path) -> RunResult:
    """The result with its artifacts as this process finds them."""
    found = {name: directory / path for name, path in result.artifacts.items()}
    result.artifacts = {name: str(path) if path.exists() else result.artifacts[name] for name, path in found.items()}
    return result


def _checkpoint_is_there(kept: dict[str, Any], directory: Path) -> bool:
    checkpoint = (kept.get("artifacts") or {}).get("checkpoint")
    return checkpoint is None or not checkpoint.startswith("checkpoints") or (directory / checkpoint).exists()
