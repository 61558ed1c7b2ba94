"""The sbatch scripts: submitit writes them, so that every key of its Hydra plugin means what it always meant."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigError

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

BASE = (
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)
OURS = ("detach", "arms_per_job", "finalizer", "submitit_folder", "max_num_timeout", "_target_")
SHARED = ("name", "partition", "qos", "account", "constraint", "exclude", "comment", "setup")
RESOURCES = ("gpu", "gres", "mem", "cpu", "ntasks", "nodes", "tasks", "array", "time", "exclusive", "depend", "hold")
FINALIZER_MIN = 30


def log_folder(parameters: Mapping[str, Any]) -> Path:
    """Where SLURM writes what the jobs print outside their arms: submitit_folder, without its part for each job."""
    folder = Path(str(parameters["submitit_folder"]))
    kept = [part for part in folder.parts if "%" not in part]
    return Path(*kept).absolute()


def array_text(parameters: Mapping[str, Any], command: str, *, count: int, parallel: int, tag: str) -> str:
    """The script of an array of `count` tasks, at most `parallel` at a time."""
    given = {key: value for key, value in parameters.items() if key not in OURS and value is not None}
    given["comment"] = tagged_comment(parameters, tag)
    given["array_parallelism"] = parallel
    more = dict(given.get("additional_parameters") or {})
    if not {"requeue", "no-requeue", "no_requeue"} & set(more):
        more["requeue"] = True
    given["additional_parameters"] = more
    return _text(parameters, given, command, map_count=count)


def finalizer_text(parameters: Mapping[str, Any], command: str, *, tag: str) -> str:
    """The script of the finalizer: the arms' partition and account, but one core and no GPU."""
    given = {key: parameters[key] for key in SHARED if parameters.get(key) is not None}
    given["comment"] = tagged_comment(parameters, tag)
    given["name"] = f"{given.get('name', 'evsys')}-conclude"
    given["timeout_min"] = min(int(parameters.get("timeout_min") or FINALIZER_MIN), FINALIZER_MIN)
    given["nodes"] = given["tasks_per_node"] = given["cpus_per_task"] = 1
    if parameters.get("mem_gb") is not None:
        given["mem_gb"] = min(parameters["mem_gb"], 4)
    more = dict(parameters.get("additional_parameters") or {})
    more = {key: value for key, value in more.items() if not key.replace("_", "-").startswith(RESOURCES)}
    given["additional_parameters"] = {**more, "requeue": True, **(parameters.get("finalizer") or {})}
    return _text(parameters, {**given, "use_srun": False, "stderr_to_stdout": True}, f"exec {command}")


def python(module: str, *arguments: object) -> str:
    """The shell command that runs one of our modules with this Python."""
    return shlex.join([sys.executable, "-u", "-m", module, *(str(argument) for argument in arguments)])


def tagged_comment(parameters: Mapping[str, Any], tag: str) -> str:
    """The user's comment, if any, and the tag that our jobs are found by."""
    return f"{parameters['comment']} {tag}" if parameters.get("comment") else tag


def _text(parameters: Mapping[str, Any], given: Mapping[str, Any], command: str, **fixed: Any) -> str:
    import submitit

    folder = log_folder(parameters)
    try:
        executor = submitit.AutoExecutor(cluster="slurm", folder=folder)
        executor.update_parameters(**{key if key in BASE else f"slurm_{key}": value for key, value in given.items()})
    except RuntimeError as error:
        raise ConfigError(f"hydra/launcher=submitit_slurm: {error} Or use hydra/launcher=isolated.") from error
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"hydra.launcher: {error}") from error
    executor._executor.parameters.update(fixed)
    text: str = cast("SlurmExecutor", executor._executor)._make_submission_file_text(command, "")
    return text
