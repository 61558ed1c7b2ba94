"""An arm's code as a Hydra job: inside Hydra's own run_job, or without loading Hydra where that makes no difference.

Importing Hydra and OmegaConf and copying their configs takes longer than all else in a short arm. An arm is run without
them if its job's settings ask nothing of Hydra but logging, and no plugin of it imports Hydra.
"""

from __future__ import annotations

import copy
import importlib.util
import logging.config
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .composed import load_config, load_plain
from .registry import names_plugins

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONCLUDE = "evsys_hydra.sweep.callback.Conclude"
NAMES_HYDRA = re.compile(r"\b(hydra|omegaconf|hydra_plugins)\b")
Body = Callable[["DictConfig | dict[str, Any]"], float | None]


def run_as_job(directory: Path, body: Body) -> float | None:
    """Call `body` with the composed config of an arm's directory; returns what it returns, raises what it raises."""
    task, hydra = load_plain(directory / "config.yaml"), load_plain(directory / "hydra.yaml")
    if asks_of_hydra(hydra) or any(imports_hydra(str(plugin)) for plugin in task.get("plugins") or []):
        return _inside_hydra(directory, body)
    logging.config.dictConfig(hydra["job_logging"])
    return body(task)


def asks_of_hydra(hydra: dict[str, Any]) -> bool:
    """Whether the `hydra` node wants more of the job than logging, or the environment has plugins of ours installed."""
    job = hydra.get("job") or {}
    callbacks = [callback.get("_target_") for callback in (hydra.get("callbacks") or {}).values()]
    logging_settings = hydra.get("job_logging")
    return bool(
        job.get("env_set")
        or job.get("chdir")
        or hydra.get("output_subdir")
        or hydra.get("verbose")
        or callbacks != [CONCLUDE]
        or not logging_settings
        or "${" in str(logging_settings)
        or names_plugins()
    )


@cache
def imports_hydra(plugin: str) -> bool:
    """Whether the source of a plugin names Hydra or OmegaConf; a package may do so in any of its files."""
    path = Path(plugin)
    if not plugin.endswith(".py"):
        spec = importlib.util.find_spec(plugin)
        if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
            return True
        path = Path(spec.origin)
    return not path.is_file() or bool(NAMES_HYDRA.search(path.read_text(errors="replace")))


@cache
def hydra_schema() -> DictConfig:
    """Hydra's own typed config, open for what plugins add to it; made once, the fork server's arms inherit it."""
    from hydra.conf import HydraConf
    from omegaconf import OmegaConf

    schema: DictConfig = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(schema, False)
    return schema


def _inside_hydra(directory: Path, body: Body) -> float | None:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
    from hydra.types import HydraContext
    from hydra.version import setbase
    from omegaconf import OmegaConf, flag_override

    setup_globals()
    setbase("1.3")
    whole = load_config(directory / "config.yaml")
    hydra = OmegaConf.unsafe_merge(copy.deepcopy(hydra_schema()), load_config(directory / "hydra.yaml"))
    with flag_override(whole, "no_deepcopy_set_nodes", True):  # copying costs more than the rest of a short arm
        whole["hydra"] = hydra
    whole.hydra.sweep.update(dir=str(directory.parent), subdir=directory.name)  # the experiment may have been moved
    job: JobReturn = run_job(
        task_function=body,
        config=whole,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=HydraContext(config_loader=cast(Any, None), callbacks=Callbacks(whole)),
    )
    if job.status != JobStatus.COMPLETED:
        raise job._return_value
    value: float | None = job._return_value
    return value
