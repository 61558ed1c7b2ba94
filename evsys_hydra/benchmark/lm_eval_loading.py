"""Finding and loading tasks of lm-evaluation-harness: by the name of a task, group or tag, or from the user's folder.

The names that the package ships are in some 14,000 files, read only if the user's folder does not have the name. A task
is loaded again by its file, relative to the folder, so that a verifier process need not look for it.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import logging
from pathlib import Path
from typing import Any

from ..errors import ConfigError

MISSING = "lm-eval is not installed: pip install 'evsys_hydra[lm-eval]'"
WHERE = "benchmark.generate"
SHOWN = 30


def load_named(names: list[str], include_path: str | None) -> list[tuple[str, Any]]:
    """Each task as (what it is loaded by, the lm-eval task); groups and tags as their tasks.

    Raises:
        ConfigError: no lm-eval, no such folder or name, a task or its dataset that cannot be loaded.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(f"{WHERE}.kind=lm_eval: {MISSING}")
    if include_path is not None and not Path(include_path).is_dir():
        raise ConfigError(f"{WHERE}.include_path: no such folder: {include_path} ({Path(include_path).absolute()})")
    found: dict[str, tuple[str, Any]] = {}
    for name in names:
        source = _source(name, include_path)
        for task_name, task in load_tasks(source, include_path).items():
            found.setdefault(task_name, (source, task))
    return list(found.values())


@functools.cache
def load_tasks(source: str, include_path: str | None) -> dict[str, Any]:
    """lm-eval's tasks of a source by name: a file of include_path (`./...`) or of the package (`lm_eval/...`), a name.

    Raises:
        ConfigError: naming what could not be loaded, and why.
    """
    from datasets.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    spec: str = source
    if source.startswith("./"):
        spec = str(Path(include_path or ".") / source)
    elif source.startswith("lm_eval/"):
        spec = str(_shipped() / source.removeprefix("lm_eval/"))
    try:
        tasks: dict[str, Any] = _manager(None if spec != source else include_path, spec == source).load([spec])["tasks"]
    except Exception as error:  # a yaml, its functions, its dataset: whatever they raise
        text = " ".join(str(error).split())[:500]
        raise ConfigError(
            f"{WHERE}.tasks: {source} could not be loaded: {type(error).__name__}: {text}. "
            "A dataset of the hub needs internet or a filled cache."
        ) from error
    return tasks


def _source(name: str, include_path: str | None) -> str:
    """What a name is loaded by.

    Raises:
        ConfigError: no such name; the nearest ones.
    """
    own: list[str] = []
    if include_path is not None:
        mine = _manager(include_path, False)
        if name in mine.task_index:
            return _file(mine.task_index[name], "./", Path(include_path)) or name
        own = mine.all_tasks
    manager = _manager(include_path, True)
    if name in manager.task_index:
        return _file(manager.task_index[name], "lm_eval/", _shipped()) or name
    near = difflib.get_close_matches(name, manager.all_tasks, n=3, cutoff=0.6)
    hints = [f"the nearest: {', '.join(near)}"] if near else []
    hints += [f"include_path has {', '.join(own[:SHOWN]) or 'no task'}"] if include_path is not None else []
    hint = "; ".join(hints) or "`lm-eval ls tasks` lists all; your own are found through include_path"
    raise ConfigError(f"{WHERE}.tasks: lm-eval has no task, group or tag {name!r}; {hint}")


def _file(entry: Any, prefix: str, root: Path) -> str | None:
    """The file of a single task under a root; None for groups and tags."""
    from lm_eval.tasks._index import Kind

    if entry.kind not in (Kind.TASK, Kind.PY_TASK) or entry.yaml_path is None:
        return None
    path, root = entry.yaml_path.resolve(), root.resolve()
    return f"{prefix}{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else None


def _shipped() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


@functools.cache
def _manager(include_path: str | None, shipped: bool) -> Any:
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of each default that a task file leaves to it
    return TaskManager(include_path=include_path, include_defaults=shipped)
