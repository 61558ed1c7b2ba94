"""`submitit_local`: arms as local submitit jobs, each in a process of its own, none of which can end the sweep.

Unlike `isolated` it starts all arms at once and imports the heavy libraries in each of them. submitit's own results
(pickles) are not read: what an arm did stands in its directory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher
from omegaconf import DictConfig

from ..record import ArmView
from .process import supervise, write_exit
from .session import Session, begin, swept_keys
from .show import Watch

POLL_S = 0.2
PARAMETERS = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")


def supervise_path(directory: str) -> int:
    """What a submitit job runs: its one argument is the path of an arm's directory."""
    return supervise(Path(directory))


class SubmititLocalLauncher(LocalLauncher):
    """The plugin's launcher with its settings, except that arms travel as directories and results as records."""

    config: DictConfig
    hydra_context: HydraContext

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        session = begin(self.hydra_context.config_loader, self.config, Path(str(self.config.hydra.sweep.dir)))
        fixed = list(self.config.hydra.overrides.task)
        keys = list(dict.fromkeys(key for words in job_overrides for key in swept_keys(words, fixed)))
        self.run_arms(session, session.prepare(job_overrides, keys))
        return session.returns()

    def run_arms(self, session: Session, directories: Sequence[Path]) -> None:
        """Submit every arm and wait until the last one has ended; never raises for what an arm does."""
        import submitit

        assert session.record is not None
        executor = submitit.AutoExecutor(cluster="local", folder=str(self.params["submitit_folder"]))
        given = {key: self.params[key] for key in PARAMETERS if self.params.get(key) is not None}
        executor.update_parameters(**given, stderr_to_stdout=bool(self.params.get("stderr_to_stdout")))
        waiting = {directory: executor.submit(supervise_path, str(directory)) for directory in directories}
        watch = Watch(directories, (session.record.facts.get("metadata") or {}).get("success_metric"))
        try:
            while waiting:
                time.sleep(POLL_S)
                for directory in [directory for directory, job in waiting.items() if job.done()]:
                    del waiting[directory]
                    self._unheard(directory)
                watch.look()
        except KeyboardInterrupt:
            for directory, job in waiting.items():
                self._cancel(directory, job)

    def _unheard(self, directory: Path) -> None:
        arm = ArmView(directory)
        if arm.state == "failed" and not arm.exit and arm.status.get("state") == "running":
            elapsed = time.time() - arm.status["started"]
            limit = self.params["timeout_min"] * 60
            if elapsed >= limit:
                write_exit(directory, "timeout", f"Timeout: the arm ran longer than its limit ({elapsed:.0f} s)")

    @staticmethod
    def _cancel(directory: Path, job: Any) -> None:
        job.cancel()
        write_exit(directory, "cancelled", "Cancelled: the sweep was interrupted before this arm had ended")
