"""Scores of lm-evaluation-harness: a task's filter and process_results on an answer, or on choices' log-likelihoods.

One metric of what process_results gives is the reward.
"""

from __future__ import annotations

import numbers
from typing import Any

import orjson

from ..errors import ConfigError
from ..registry import register_verifier
from .lm_eval_loading import WHERE, load_tasks

CHOICE = "multiple_choice"
"""lm-eval's word for tasks whose choices are scored."""


@register_verifier("lm_eval")
def lm_eval(output: str, expected: Any, params: dict[str, Any]) -> float:
    """The task's own metric of its own filter's reading of the answer, or of the choices' log-likelihoods.

    Raises:
        ValueError: a task with choices, and no log-likelihoods.
    """
    task = load_tasks(params["source"], params["include_path"])[params["task"]]
    given: str | list[float] = output
    if task.OUTPUT_TYPE == CHOICE:
        if "choice_logprobs" not in params:
            raise ValueError("the client gave no log-likelihoods of the choices (Result.choice_logprobs)")
        given = params["choice_logprobs"]
    return float(_scores(task, params["doc"], params["filter"], given)[params["metric"]])


def chosen_filter(task: Any, wanted: str | None) -> str:
    """The filter that answers go through.

    Raises:
        ConfigError: no such filter.
    """
    names = [str(each.name) for each in task._filters]
    if wanted is not None and wanted not in names:
        raise ConfigError(f"{WHERE}.filter: {task.task_name} has no filter {wanted!r}; it has {', '.join(names)}")
    return wanted or names[0]


def chosen_metric(task: Any, document: Any, filter_name: str, wanted: str | None) -> str:
    """The metric to be the reward, tried on a right answer to the first document, or on any choice of it.

    Raises:
        ConfigError: no such metric, or none that is a reward.
    """
    name, target = task.task_name, target_of(task, document)
    answer: str | list[float] = str(target[0] if isinstance(target, list) and target else target)
    if task.OUTPUT_TYPE == CHOICE:
        answer = [-1.0 - place for place, _ in enumerate(task.construct_requests(document, ""))]
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
        if isinstance(value, numbers.Real)
        and 0.0 <= float(value) <= 1.0
        and better.get(metric, True)
        # Of choices it asks whether the model would have written one; that is not looked at.
        and not (task.OUTPUT_TYPE == CHOICE and metric == "exact_match")
    ]
    if (wanted or next(iter(usable), None)) not in usable:
        raise ConfigError(
            f"{WHERE}.metric: {name} has no metric {wanted!r} that gives each answer a number in [0, 1], the higher "
            f"the better; it has {', '.join(usable) or 'none'} (of {', '.join(scores) or 'none'})"
        )
    return wanted or usable[0]


def _scores(task: Any, document: Any, filter_name: str, given: str | list[float]) -> dict[str, Any]:
    """The task's metrics of an answer, or of its choices' log-likelihoods."""
    from lm_eval.api.instance import Instance

    whose = (task.task_name, 0, 1)
    if isinstance(given, str):
        instances = [Instance("generate_until", document, ("", {}), 0, whose, [given])]
    else:  # with each comes whether it is what the model would have written
        instances = [
            Instance("loglikelihood", document, ("", ""), place, whose, [(value, False)])
            for place, value in enumerate(given)
        ]
    next(each for each in task._filters if each.name == filter_name).apply(instances)
    read = [instance.filtered_resps[filter_name] for instance in instances]
    scores: dict[str, Any] = task.process_results(document, read)
    return scores


def target_of(task: Any, document: Any) -> Any:
    """The right answer, or the right ones; of choices their texts."""
    target = task.doc_to_target(document)
    if task.get_config("doc_to_choice") is not None:
        choices = task.doc_to_choice(document)

        def text(each: Any) -> Any:
            return choices[each] if isinstance(each, int) and 0 <= each < len(choices) else each

        target = [text(each) for each in target] if isinstance(target, list) else text(target)
    return as_data(target, task.task_name)


def as_data(value: Any, what: str) -> Any:
    """A value as JSON has it.

    Raises:
        ConfigError: it has none.
    """
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError as error:
        raise ConfigError(f"{WHERE}.tasks: {what} cannot be kept as JSON: {error}") from error
