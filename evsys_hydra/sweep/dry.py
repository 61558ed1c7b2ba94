"""`dry=true`: a few steps and a few tasks of every arm, to see what the model is given and what the sweep would take.

An arm shortens its own config (`shortened`) and notes what it left out (`note`); the experiment's conclusion is then
this report, with no ranking and no claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..config import BenchmarkConfig, ExperimentConfig
from ..record import ArmRecord, ArmView
from ..training.schedule import steps_of

if TYPE_CHECKING:
    from ..training.context import Row

STEPS = 5
TASKS = 4
ROWS = 32
"""Rows of an algorithm without max_steps."""
EXAMPLES = 2
CHARACTERS = 800


def shortened(config: ExperimentConfig) -> ExperimentConfig:
    """The config of a few steps and tasks; an algorithm without `max_steps` gets a few rows instead."""
    algorithm, data = config.algorithm, config.data
    fields = type(algorithm).model_fields
    if "max_steps" in fields:
        few = min(STEPS, getattr(algorithm, "max_steps") or STEPS)  # noqa: B009
        every = {"log_every": 1} if "log_every" in fields else {}
        algorithm = algorithm.model_copy(update={"max_steps": few, **every})
    else:
        data = data.model_copy(update={"limit": min(ROWS, data.limit or ROWS)})
    entries = [entry.model_copy(update=_few(entry)) for entry in config.metadata.benchmark]
    metadata = config.metadata.model_copy(update={"benchmark": entries})
    return config.model_copy(update={"algorithm": algorithm, "data": data, "metadata": metadata})


def _few(entry: BenchmarkConfig) -> dict[str, int]:
    every = {} if entry.run_every is None else {"run_every": min(STEPS, entry.run_every)}
    return {"limit": min(TASKS, entry.limit or TASKS), **every}


def note(config: ExperimentConfig, record: ArmRecord) -> None:
    """Record what the whole arm would be: its steps, its tasks, and rows as the model sees them."""
    from ..training.rows import load_rows

    rows = load_rows(config.data, config.algorithm) if config.algorithm.kind != "none" else []
    asked = {key: getattr(config.algorithm, key, None) for key in ("max_steps", "epochs", "batch_size")}
    record.event(
        "dry", algorithm=asked, n_rows=len(rows), n_tasks=_n_tasks(config), examples=rendered(config, rows[:EXAMPLES])
    )


def rendered(config: ExperimentConfig, rows: Sequence[Row]) -> list[str]:
    """Rows as the model will see them, what is trained on between ⟦ and ⟧; as JSON where they are no such text."""
    from ..training.sft_config import SFTConfig

    if not isinstance(config.algorithm, SFTConfig) or not rows:
        return [orjson.dumps(row, default=str).decode() for row in rows]
    from ..models import load_tokenizer
    from ..training.encoding import marked_examples

    return list(marked_examples(rows, load_tokenizer(config.model), len(rows), config.algorithm.encoding()))


def dry_facts(views: Sequence[ArmView], launcher: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the arms took, what they would take as a whole, and what they were given, as plain JSON."""
    arms = [_arm_facts(view) for view in views]
    limit = (launcher or {}).get("timeout_min")
    limit_s = 60 * float(limit) if isinstance(limit, int | float) else None
    over = [arm["name"] for arm in arms if limit_s and arm["estimate_s"] and arm["estimate_s"] > limit_s]
    known = [arm["estimate_s"] for arm in arms]
    return {
        "arms": arms,
        "total_s": math.fsum(known) if known and None not in known else None,
        "timeout_min": limit,
        "over_timeout": over,
        "examples": list(dict.fromkeys(text for view in views for text in (_noted(view).get("examples") or [])))[:8],
        "answers": _answers(views),
    }


def dry_text(facts: Mapping[str, Any]) -> str:
    """The facts for people."""
    arms = facts["arms"]
    failed = [arm for arm in arms if arm["error"]]
    width = max((len(arm["name"]) for arm in arms), default=4)
    lines = [
        f"Dry run: {len(arms) - len(failed)} of {len(arms)} arms ran up to {STEPS} steps and {TASKS} tasks. "
        "Nothing is ranked and nothing is claimed.",
        "",
        f"{'':{width}}  {'steps':>7}  {'s/step':>8}  {'tasks':>7}  whole arm, estimated",
    ]
    for arm in arms:
        figures = (_text(arm["steps"], "d"), _text(arm["step_s"], ".3g"), _text(arm["n_tasks"], "d"))
        whole = f"failed: {arm['error'].splitlines()[0]}" if arm["error"] else duration(arm["estimate_s"])
        lines.append(f"{arm['name']:{width}}  {figures[0]:>7}  {figures[1]:>8}  {figures[2]:>7}  {whole}")
    if facts["total_s"] is not None:
        lines += ["", f"All arms one after another: {duration(facts['total_s'])}."]
    if facts["over_timeout"]:
        lines += [
            "",
            f"Warning: over hydra.launcher.timeout_min={facts['timeout_min']}: {', '.join(facts['over_timeout'])}. "
            "Raise it, or shorten these arms.",
        ]
    if facts["examples"]:
        lines += ["", "What is trained on:", *(f"  {line}" for text in facts["examples"] for line in _lines(text))]
    if facts["answers"]:
        lines += ["", "What was answered:"]
        for answer in facts["answers"]:
            lines += [f"  {answer['arm']}, {answer['eval']}, task {answer['task_id']}: reward {answer['reward']}"]
            lines += [f"    > {line}" for line in _lines(answer["instruction"])]
            lines += [f"    < {line}" for line in _lines(answer["output"] or "")]
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _arm_facts(view: ArmView) -> dict[str, Any]:
    noted = _noted(view)
    done = [
        (event["step"], event["t"], event["values"]) for event in view.events("metrics") if event["split"] == "train"
    ]
    step_s, tokens = _pace(done)
    data = next(view.events("training_data"), {})
    steps = _steps(noted.get("algorithm") or {}, data)
    train_s = _train_s(view, steps, step_s, tokens, data, noted)
    eval_s = _eval_s(view, noted.get("n_tasks") or {})
    ended = view.state == "completed"
    rest_s = max(0.0, (view.seconds or 0.0) - _measured(done, view)) if ended else 0.0
    return {
        "name": view.name,
        "error": view.error or (None if ended else view.state),
        "steps": steps,
        "step_s": step_s,
        "n_tasks": sum((noted.get("n_tasks") or {}).values()) or None,
        "train_s": train_s,
        "eval_s": eval_s,
        "start_s": rest_s,
        "estimate_s": train_s + eval_s + rest_s if ended and train_s is not None else None,
    }


def _pace(done: Sequence[tuple[int, float, Mapping[str, float]]]) -> tuple[float | None, float | None]:
    """Seconds and tokens of a step, the first one left out: it is slower. From one step alone: the tokens' own pace."""
    if len(done) < 2:
        return None, None
    (first, began, before), (last, ended, after) = done[0], done[-1]
    steps = max(1, last - first)
    tokens = (after["tokens"] - before["tokens"]) / steps if "tokens" in after and "tokens" in before else None
    return (ended - began) / steps, tokens or None


def _steps(asked: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """Steps of the whole training, as its settings say."""
    if asked.get("max_steps"):
        return int(asked["max_steps"])
    if not asked.get("epochs") or not asked.get("batch_size") or not data.get("n_examples"):
        return None
    return steps_of(float(asked["epochs"]), math.ceil(int(data["n_examples"]) / int(asked["batch_size"])))


def _train_s(
    view: ArmView,
    steps: int | None,
    step_s: float | None,
    tokens: float | None,
    data: Mapping[str, Any],
    noted: Mapping[str, Any],
) -> float | None:
    """Seconds of the whole training: measured seconds of a token times its tokens, else those of a step."""
    if not noted.get("n_rows"):
        return 0.0  # trains nothing
    if steps is None or step_s is None:
        return None
    batch = (noted.get("algorithm") or {}).get("batch_size")
    if tokens and batch and data.get("n_tokens") and data.get("n_examples"):
        return float(steps * step_s * (data["n_tokens"] / data["n_examples"] * batch) / tokens)
    return steps * step_s


def _eval_s(view: ArmView, n_tasks: Mapping[str, int]) -> float:
    """Seconds of the evals: the answers' time as often as the few tasks go into all, the rest of an eval once.

    An upper bound: more tasks make fuller batches.
    """
    seconds = 0.0
    for event in view.events("eval"):
        spent = float(event.get("eval_seconds") or 0)
        waited = [float((row.get("metadata") or {}).get("latency_s") or 0) for row in view.predictions(event["name"])]
        answering = min(spent, max(waited, default=spent))
        times = max(1.0, n_tasks.get(event["name"], 0) / TASKS)
        seconds += spent - answering + answering * times
    return seconds


def _measured(done: Sequence[tuple[int, float, Mapping[str, float]]], view: ArmView) -> float:
    steps = done[-1][1] - done[0][1] if len(done) > 1 else 0.0
    return steps + math.fsum(float(event.get("eval_seconds") or 0) for event in view.events("eval"))


def _n_tasks(config: ExperimentConfig) -> dict[str, int]:
    from ..benchmark import Benchmark
    from ..errors import EvsysError

    found = {}
    for entry in config.metadata.benchmark:
        try:
            benchmark = Benchmark.load(entry)
        except (EvsysError, OSError):
            continue  # the eval says what is wrong with it
        found[entry.name or benchmark.name] = len(benchmark.tasks[: entry.limit])
    return found


def _noted(view: ArmView) -> dict[str, Any]:
    return next(view.events("dry"), {})


def _answers(views: Sequence[ArmView]) -> list[dict[str, Any]]:
    """The first answer of each benchmark, of the first arm that has one."""
    found: dict[str, dict[str, Any]] = {}
    for view in views:
        for event in view.events("eval"):
            if event["name"] in found or view.role == "baseline":
                continue
            row = next(iter(view.predictions(event["name"])), None)
            if row is not None:
                kept = {key: row.get(key) for key in ("task_id", "instruction", "output", "reward")}
                found[event["name"]] = {"arm": view.name, "eval": event["name"], **kept}
    return list(found.values())


def _lines(text: str) -> list[str]:
    cut = text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} ... ({len(text)} characters)"
    return cut.splitlines() or [""]


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
