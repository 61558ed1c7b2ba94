"""From a task's verifier to a reward: which verifiers can run here, and what their processes need to know.

Verifiers run in fresh processes, not forks: an arm has torch's threads and perhaps a GPU, with which a fork is not
safe. A fresh process gets functions by reference where it can import them, and by value (cloudpickle) where it cannot:
those defined in the running script, in a notebook or inside a function.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .. import registry
from ..errors import ConfigError
from .task import E2B, InProcess, Task
from .worker import Setup

MAX_SHOWN = 3


def unusable(tasks: Sequence[Task]) -> list[str]:
    """Why verifiers of these tasks cannot run here: one line a reason; empty if all can."""
    problems: list[str] = []
    sandboxed = [task.task_id for task in tasks if isinstance(task.verifier, E2B)]
    if sandboxed:
        problems.append(
            f"{_some(sandboxed)}: verifiers of kind 'e2b' run code in a sandbox, which this version does not have. "
            "Kinds that can be used: in_process, llm_judge."
        )
    maths = [task.task_id for task in tasks if _fn_name(task) == "math_answer"]
    if maths and importlib.util.find_spec("math_verify") is None:
        problems.append(f"{_some(maths)}: math_answer needs math-verify: pip install 'evsys_hydra[math]'")
    return problems


def setup_of(tasks: Iterable[Task], time_limit: float) -> Setup:
    """What a verifier process needs for these tasks.

    Raises:
        ConfigError: a verifier that can be given to no other process.
        UnknownKind: a verifier that nothing registered.
    """
    import cloudpickle  # type: ignore[import-untyped]

    names = sorted({name for task in tasks if (name := _fn_name(task)) is not None})
    targets: dict[str, Any] = {name: registry.verifiers.get(name).target for name in names}
    try:
        return Setup(_plugin_files(targets.values()), cloudpickle.dumps(targets), time_limit)
    except Exception as error:
        raise ConfigError(
            f"the verifiers {', '.join(names)} cannot be handed to a process of their own "
            f"({type(error).__name__}: {error}). Define them in a module, and name it under `plugins`."
        ) from error


def _plugin_files(targets: Iterable[Any]) -> tuple[str, ...]:
    """Files of `plugins: [path.py]`: their modules cannot be imported by name in another process."""
    modules = sorted({target.__module__ for target in targets if target.__module__.startswith("evsys_plugin_")})
    return tuple(file for name in modules if (file := sys.modules[name].__file__) is not None)


def _fn_name(task: Task) -> str | None:
    return task.verifier.fn_name if isinstance(task.verifier, InProcess) else None


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MAX_SHOWN} more" if len(ids) > MAX_SHOWN else ""
    return f"task {', '.join(ids[:MAX_SHOWN])}{more}"
