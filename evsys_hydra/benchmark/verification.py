"""From a task's verifier to a reward: which verifiers can run here, and what their processes need to know.

Verifiers run in fresh processes, not forks: an arm has torch's threads and perhaps a GPU, with which a fork is not
safe. A fresh process gets functions by reference where it can import them, and by value (cloudpickle) where it cannot:
those defined in the running script, in a notebook or inside a function.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..config import SandboxLimits
from ..errors import ConfigError
from . import e2b, sandbox
from .python_tests import params_problem
from .sandbox import Limits
from .task import E2B, InProcess, Task
from .worker import Job, Setup

MAX_SHOWN = 3
NEEDS = {
    "lm_eval": ("lm_eval", "lm-eval"),
    "math_answer": ("math_verify", "math"),
    "reasoning_gym": ("reasoning_gym", "reasoning-gym"),
}
"""Verifier -> the module it imports, and the extra that brings it."""
Checked = InProcess | E2B
"""Verifiers that run in a verifier process."""


def limits_of(kind: str | None, limits: SandboxLimits) -> Limits | None:
    """What a config allows sandboxed programs (its `sandbox` and `sandbox_limits`); None: it allows none."""
    return None if kind is None else Limits(**limits.model_dump())


def unusable(tasks: Sequence[Task], allowed: Limits | None = None, places: Sequence[str] = ()) -> list[str]:
    """Why verifiers of these tasks cannot run here: one line a reason; empty if all can.

    Args:
        allowed: what sandboxed programs may use; None: tasks may not run any.
        places: where each task stands; empty: tasks are named by their ids.
    """
    where = list(places[: len(tasks)]) or [f"task {task.task_id}" for task in tasks]
    running = [place for place, task in zip(where, tasks, strict=True) if runs_code(task)]
    problems: list[str] = []
    if running and allowed is None:
        problems.append(f"{_some(running)}: {off('benchmark')}")
    elif running and allowed is not None and (problem := sandbox.problem(allowed)):
        problems.append(f"{_some(running)}: run code, and benchmark.sandbox = 'bubblewrap' cannot hold it: {problem}")
    wrong = [f"{place}: {problem}" for place, task in zip(where, tasks, strict=True) if (problem := wrong_code(task))]
    problems += wrong[:MAX_SHOWN] + ([f"... and {len(wrong) - MAX_SHOWN} more"] if len(wrong) > MAX_SHOWN else [])
    for fn_name, (module, extra) in NEEDS.items():
        using = [place for place, task in zip(where, tasks, strict=True) if _fn_name(task) == fn_name]
        if using and importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            problems.append(f"{_some(using)}: {fn_name} needs {package}: pip install 'evsys_hydra[{extra}]'")
    return problems


def runs_code(task: Task) -> bool:
    """Whether the task's verifier runs the answer, and so needs the sandbox."""
    return isinstance(task.verifier, E2B) or _fn_name(task) == "python_tests"


def off(owner: str) -> str:
    """What is wrong with such a task where it is not allowed, and the remedy.

    Args:
        owner: what has the `sandbox` field: benchmark or algorithm.
    """
    return (
        "verifier: kind 'e2b' and fn_name 'python_tests' run the model's code, which is off; "
        f"allow it in a sandbox with {owner}.sandbox=bubblewrap"
    )


def wrong_code(task: Task) -> str | None:
    """What is wrong with the tests that a task runs on the answer's code; None: nothing, or it runs none."""
    if isinstance(task.verifier, E2B):
        return e2b.e2b_problem(task.verifier)
    if isinstance(task.verifier, InProcess) and runs_code(task):
        return params_problem(task.verifier.params)
    return None


def job_of(verifier: Checked, output: str, choice_logprobs: Sequence[float] = ()) -> Job:
    """The verification of one answer.

    Args:
        choice_logprobs: handed to the verifier in its params, if there are any.
    """
    if isinstance(verifier, E2B):
        return e2b.job_of(verifier, output)
    logprobs = {"choice_logprobs": list(choice_logprobs)} if choice_logprobs else {}
    return Job(verifier.fn_name, output, verifier.expected, {**verifier.params, **logprobs})


def setup_of(tasks: Sequence[Task], time_limit: float, allowed: Limits | None = None) -> Setup:
    """What a verifier process needs for these tasks.

    Args:
        allowed: what sandboxed programs may use, if a task runs one.

    Raises:
        ConfigError: a verifier that can be given to no other process.
        UnknownKind: a verifier that nothing registered.
    """
    import cloudpickle  # type: ignore[import-untyped]

    names = sorted({name for task in tasks if (name := _fn_name(task)) is not None})
    targets: dict[str, Any] = {name: registry.verifiers.get(name).target for name in names}
    if any(isinstance(task.verifier, E2B) for task in tasks):
        targets[e2b.FN_NAME] = e2b.run_test_sh
    if not any(map(runs_code, tasks)):
        allowed = None
    try:
        versions = frozenset(versions_of(tasks).values())
        return Setup(_plugin_files(targets.values()), cloudpickle.dumps(targets), time_limit, allowed, versions)
    except Exception as error:
        raise ConfigError(
            f"the verifiers {', '.join(names)} cannot be handed to a process of their own "
            f"({type(error).__name__}: {error}). Define them in a module, and name it under `plugins`."
        ) from error


def versions_of(tasks: Sequence[Task]) -> dict[str, str]:
    """task_id -> the version of its registered verifier: 16 hex digits of the sha256 of the file that defines it.

    A task is missing where the version cannot be known, or is part of the task itself (a rubric, a test script).
    """
    names = {task.task_id: name for task in tasks if (name := _fn_name(task)) is not None}
    versions = {name: _version(registry.verifiers.get(name).target) for name in set(names.values())}
    return {task_id: version for task_id, name in names.items() if (version := versions[name]) is not None}


def _version(target: Any) -> str | None:
    try:
        file = getattr(sys.modules[target.__module__], "__file__", None)  # a notebook has none
        source = Path(file).read_bytes() if file is not None else inspect.getsource(target).encode()
    except (KeyError, AttributeError, OSError, TypeError):  # typed into an interpreter, or of no Python file
        return None
    return hashlib.sha256(source).hexdigest()[:16]


def _plugin_files(targets: Iterable[Any]) -> tuple[str, ...]:
    """Files of `plugins: [path.py]`: their modules cannot be imported by name in another process."""
    modules = sorted({target.__module__ for target in targets if target.__module__.startswith("evsys_plugin_")})
    return tuple(file for name in modules if (file := sys.modules[name].__file__) is not None)


def _fn_name(task: Task) -> str | None:
    return task.verifier.fn_name if isinstance(task.verifier, InProcess) else None


def _some(places: Sequence[str]) -> str:
    more = f" and {len(places) - MAX_SHOWN} more" if len(places) > MAX_SHOWN else ""
    return f"{', '.join(places[:MAX_SHOWN])}{more}"
