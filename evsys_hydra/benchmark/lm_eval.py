"""Tasks of lm-evaluation-harness that generate text: its prompts, its filters, its metrics (the `lm-eval` extra).

The instruction is the very text that lm-eval gives a model without a chat template, few-shot examples included. An
answer goes through the task's filter and process_results; one metric of it is the reward.
"""

from __future__ import annotations

import hashlib
import numbers
from typing import Any, Literal

import orjson
from pydantic import Field

from ..config import KindConfig
from ..errors import ConfigError
from ..registry import register_benchmark, register_verifier
from .lm_eval_loading import WHERE, load_named, load_tasks

MAX_LABEL = 80
"""Longest text of a document that is kept as metadata, in characters."""


class LmEval(KindConfig):
    """Tasks of lm-evaluation-harness (needs the `lm-eval` extra)."""

    kind: Literal["lm_eval"] = "lm_eval"
    tasks: str | list[str] = Field(min_length=1)
    """Names of lm-eval's tasks, groups or tags; their output_type must be generate_until."""
    include_path: str | None = None
    """A folder with your own task files (.yaml), searched first."""
    n: int | None = Field(None, ge=1)
    """The first N documents of each task; null: all."""
    num_fewshot: int | None = Field(None, ge=0)
    """Examples before each question; null: as the task says."""
    fewshot_seed: int = 1234
    """Which examples; lm-eval's default."""
    metric: str | None = None
    """The metric that is the reward; null: the first one the task names."""
    filter: str | None = None
    """The task's filter that the answer goes through; null: the first one."""


@register_benchmark("lm_eval", config=LmEval)
def lm_eval_tasks(config: LmEval) -> list[dict[str, Any]]:
    """The tasks, in lm-eval's order; metadata: `task`, and `doc` with the document's numbers and short texts.

    Raises:
        ConfigError: no lm-eval, an unknown task, a task that needs log-likelihoods or runs code, no such metric.
    """
    names = [config.tasks] if isinstance(config.tasks, str) else config.tasks
    loaded = load_named(names, config.include_path)
    if problems := [problem for _, task in loaded if (problem := _unusable(task)) is not None]:
        raise ConfigError("\n".join(f"{WHERE}.tasks: {problem}" for problem in problems))
    return [row for source, task in loaded for row in _rows(source, task, config)]


@register_verifier("lm_eval")
def lm_eval(output: str, expected: Any, params: dict[str, Any]) -> float:
    """The task's own metric of its own filter's reading of the answer."""
    task = load_tasks(params["source"], params["include_path"])[params["task"]]
    scores = _scores(task, params["doc"], params["filter"], output)
    return float(scores[params["metric"]])


def _unusable(task: Any) -> str | None:
    name, kind = task.task_name, task.OUTPUT_TYPE
    if kind != "generate_until":
        return (
            f"{name} has output_type {kind}, which needs log-likelihoods of given texts; answers are generated, so "
            "only output_type generate_until works (many tasks have such a variant: *_generative, *_cot, ...)"
        )
    if getattr(task, "UNSAFE_CODE", False):
        return f"{name} runs code that a model wrote (unsafe_code); lm-eval does that outside any sandbox: refused"
    if getattr(task, "MULTIMODAL", False):
        return f"{name} asks about images or sound; only text can be asked here"
    return None


def _rows(source: str, task: Any, config: LmEval) -> list[dict[str, Any]]:
    name = task.task_name
    shots = task.get_config("num_fewshot") if config.num_fewshot is None else config.num_fewshot
    task.set_fewshot_seed(seed=config.fewshot_seed)
    documents = [document for _, document in task.doc_iterator(limit=config.n)]
    filter_name = _chosen_filter(task, config.filter)
    metric = _chosen_metric(task, documents[0], filter_name, config.metric)
    settings = task.get_config("generation_kwargs") or {}
    version = hashlib.sha256(orjson.dumps(task.dump_config(), default=str, option=orjson.OPT_NON_STR_KEYS)).hexdigest()
    rows = []
    for number, document in enumerate(documents):
        context = task.fewshot_context(document, num_fewshot=shots or 0, gen_prefix=task.doc_to_prefix(document))
        params = {
            "source": source,
            "include_path": config.include_path,
            "task": name,
            "filter": filter_name,
            "metric": metric,
            "doc": _as_data(document, f"{name}, document {number}"),
            "version": version[:16],
        }
        rows.append(
            {
                "task_id": f"{name}-{number:04d}",
                "instruction": context,
                "verifier": {
                    "kind": "in_process",
                    "fn_name": "lm_eval",
                    "expected": _target(task, document),
                    "params": params,
                },
                "metadata": {"task": name, "doc": _labels(params["doc"])},
                "max_tokens": _max_tokens(settings),
                "stop": _stop(settings),
            }
        )
    return rows


def _max_tokens(settings: dict[str, Any]) -> int | None:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's order
    return next((int(settings[name]) for name in names if settings.get(name) is not None), None)


def _stop(settings: dict[str, Any]) -> list[str] | None:
    until = settings.get("until") or []
    return ([until] if isinstance(until, str) else [text for text in until if text]) or None


def _chosen_filter(task: Any, wanted: str | None) -> str:
    names = [str(each.name) for each in task._filters]
    if wanted is not None and wanted not in names:
        raise ConfigError(f"{WHERE}.filter: {task.task_name} has no filter {wanted!r}; it has {', '.join(names)}")
    return wanted or names[0]


def _chosen_metric(task: Any, document: Any, filter_name: str, wanted: str | None) -> str:
    """The metric to be the reward, tried on a right answer to the first document."""
    name, target = task.task_name, _target(task, document)
    answer = str(target[0] if isinstance(target, list) and target else target)
    try:
        scores = _scores(task, document, filter_name, answer)
    except Exception as error:
        raise ConfigError(
            f"{WHERE}.tasks: {name} could not score an answer to its first document: {type(error).__name__}: {error}"
        ) from error
    better = task.higher_is_better()
    usable = [
        metric
        for metric, value in scores.items()
        if isinstance(value, numbers.Real) and 0.0 <= float(value) <= 1.0 and better.get(metric, True)
    ]
    if (wanted or next(iter(usable), None)) not in usable:
        raise ConfigError(
            f"{WHERE}.metric: {name} has no metric {wanted!r} that gives each answer a number in [0, 1], the higher "
            f"the better; it has {', '.join(usable) or 'none'} (of {', '.join(scores) or 'none'})"
        )
    return wanted or usable[0]


def _scores(task: Any, document: Any, filter_name: str, output: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    instance = Instance("generate_until", document, ("", {}), 0, (task.task_name, 0, 1), [output])
    next(each for each in task._filters if each.name == filter_name).apply([instance])
    scores: dict[str, Any] = task.process_results(document, [instance.filtered_resps[filter_name]])
    return scores


def _target(task: Any, document: Any) -> Any:
    target = task.doc_to_target(document)
    if isinstance(target, int) and task.get_config("doc_to_choice") is not None:
        target = task.doc_to_choice(document)[target]
    return _as_data(target, task.task_name)


def _as_data(value: Any, what: str) -> Any:
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError as error:
        raise ConfigError(f"{WHERE}.tasks: {what} cannot be kept as JSON: {error}") from error


def _labels(document: Any) -> dict[str, Any]:
    fields = document.items() if isinstance(document, dict) else ()
    return {
        str(key): value
        for key, value in fields
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_LABEL)
    }
