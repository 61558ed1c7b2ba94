"""Tasks of lm-evaluation-harness: its prompts, its choices, its filters, its metrics (the `lm-eval` extra).

The instruction is the very text that lm-eval gives a model without a chat template, few-shot examples included. An
answer, or the log-likelihoods of the choices, goes through the task's filter and process_results; one metric of it is
the reward.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import orjson
from pydantic import Field

from ..config import KindConfig
from ..errors import ConfigError
from ..inference.client import ChoiceNorm
from ..registry import register_benchmark
from .lm_eval_loading import WHERE, load_named
from .lm_eval_scores import CHOICE, as_data, chosen_filter, chosen_metric, target_of

MAX_LABEL = 80
"""Longest text of a document that is kept as metadata, in characters."""
NORMS: dict[str, ChoiceNorm] = {"acc_norm": "characters", "acc_bytes": "bytes"}
"""What lm-eval divides log-likelihoods by for a metric; for all others by nothing."""


class LmEval(KindConfig):
    """Tasks of lm-evaluation-harness (needs the `lm-eval` extra)."""

    kind: Literal["lm_eval"] = "lm_eval"
    tasks: str | list[str] = Field(min_length=1)
    """Names of lm-eval's tasks, groups or tags; of output_type generate_until or multiple_choice."""
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
        ConfigError: no lm-eval, an unknown task, a task that cannot be asked here or runs code, no such metric.
    """
    names = [config.tasks] if isinstance(config.tasks, str) else config.tasks
    loaded = load_named(names, config.include_path)
    if problems := [problem for _, task in loaded if (problem := _unusable(task)) is not None]:
        raise ConfigError("\n".join(f"{WHERE}.tasks: {problem}" for problem in problems))
    return [row for source, task in loaded for row in _rows(source, task, config)]


def _unusable(task: Any) -> str | None:
    name, kind = task.task_name, task.OUTPUT_TYPE
    if kind not in ("generate_until", CHOICE):
        return (
            f"{name} has output_type {kind}, which scores one given text; only generate_until and {CHOICE} work "
            "(many tasks have such a variant: *_generative, *_cot, ...)"
        )
    if kind == CHOICE and getattr(task, "multiple_input", 0):
        return f"{name} has a prompt of its own for each choice (multiple inputs); only one prompt can be asked here"
    if kind == CHOICE and "acc_mutual_info" in task.higher_is_better():
        return f"{name} has the metric acc_mutual_info, which needs the choices' log-likelihoods without the prompt too"
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
    filter_name = chosen_filter(task, config.filter)
    metric = chosen_metric(task, documents[0], filter_name, config.metric)
    chosen = task.OUTPUT_TYPE == CHOICE
    settings = {} if chosen else task.get_config("generation_kwargs") or {}
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
            "doc": as_data(document, f"{name}, document {number}"),
            "version": version[:16],
        }
        rows.append(
            {
                "task_id": f"{name}-{number:04d}",
                "instruction": context,
                "verifier": {
                    "kind": "in_process",
                    "fn_name": "lm_eval",
                    "expected": target_of(task, document),
                    "params": params,
                },
                "metadata": {"task": name, "doc": _labels(params["doc"])},
                "max_tokens": _max_tokens(settings),
                "stop": _stop(settings),
                **(_choices(task, document, context, metric) if chosen else {}),
            }
        )
    return rows


def _choices(task: Any, document: Any, context: str, metric: str) -> dict[str, Any]:
    """The task's choices, as lm-eval itself would have them scored after the context."""
    delimiter = str(task.get_config("target_delimiter") or "")
    asked = [request.args for request in task.construct_requests(document, context)]
    if any(prompt != context or not text.startswith(delimiter) for prompt, text in asked):
        raise ConfigError(f"{WHERE}.tasks: {task.task_name} asks for more than its choices after one prompt")
    return {
        "choices": [text.removeprefix(delimiter) for _, text in asked],
        "choice_delimiter": delimiter,
        "choice_norm": NORMS.get(metric),
    }


def _max_tokens(settings: dict[str, Any]) -> int | None:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's order
    return next((int(settings[name]) for name in names if settings.get(name) is not None), None)


def _stop(settings: dict[str, Any]) -> list[str] | None:
    until = settings.get("until") or []
    return ([until] if isinstance(until, str) else [text for text in until if text]) or None


def _labels(document: Any) -> dict[str, Any]:
    fields = document.items() if isinstance(document, dict) else ()
    return {
        str(key): value
        for key, value in fields
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_LABEL)
    }
