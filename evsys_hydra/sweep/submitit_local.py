"""`submitit_local`: arms as local submitit jobs, each in a process of its own, none of which can end the sweep.

Unlike `isolated` it starts all arms at once and imports the heavy libraries in each of them. submitit's own results
(pickles) are not read: what an arm did stands in its directory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

from ..record import ArmView, is_running
from .cancel import end_arm
from .chain import chains, supervise_chain
from .launch import GRACE_S, Interrupts
from .launcher import ArmsLauncher
from .process import write_exit
from .session import Session
from .show import Watch

POLL_S = 0.2
PARAMETERS = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")


def supervise_paths(directories: list[str]) -> int:
    """What a submitit job runs: its one argument is the path of an arm's directory, or those of a chain's stages."""
    return supervise_chain([Path(directory) for directory in directories])


class SubmititLocalLauncher(ArmsLauncher, LocalLauncher):
    """The plugin's launcher with its settings, except that arms travel as directories and results as records."""

    def run_arms(self, session: Session, directories: Sequence[Path]) -> None:
        """Submit every arm and wait until the last one has ended; never raises for what an arm does."""
        import submitit

        assert session.record is not None
        executor = submitit.AutoExecutor(cluster="local", folder=str(self.params["submitit_folder"]))
        given = {key: self.params[key] for key in PARAMETERS if self.params.get(key) is not None}
        executor.update_parameters(**given, stderr_to_stdout=bool(self.params.get("stderr_to_stdout")))
        waiting = {
            tuple(chain): executor.submit(supervise_paths, [str(stage) for stage in chain])
            for chain in chains(directories)
        }
        watch = Watch(directories, (session.record.facts.get("metadata") or {}).get("success_metric"))
        with Interrupts() as interrupts:
            while waiting and not interrupts.caught:
                time.sleep(POLL_S)
                for chain in [chain for chain, job in waiting.items() if job.done()]:
                    del waiting[chain]
                    for directory in chain:
                        self._unheard(directory)
                watch.look()
        until = time.monotonic() + GRACE_S
        while waiting and time.monotonic() < until:
            for chain, job in waiting.items():
                self._cancel(chain, job)
            time.sleep(POLL_S)
            waiting = {chain: job for chain, job in waiting.items() if not job.done()}

    def _unheard(self, directory: Path) -> None:
        arm = ArmView(directory)
        if arm.state == "failed" and not arm.exit and arm.status.get("state") == "running":
            elapsed = time.time() - arm.status["started"]
            limit = self.params["timeout_min"] * 60
            if elapsed >= limit:
                write_exit(directory, "timeout", f"Timeout: the arm ran longer than its limit ({elapsed:.0f} s)")

    @staticmethod
    def _cancel(chain: Sequence[Path], job: Any) -> None:
        """To be repeated until the job has ended: submitit forgets a signal that comes while the job is starting."""
        job.cancel(check=False)
        for directory in chain:
            arm = ArmView(directory)
            if is_running(directory):
                end_arm(arm, "the sweep was interrupted while this arm ran")
            elif arm.state == "pending":
                write_exit(directory, "cancelled", "Cancelled: the sweep was interrupted before this arm ran")
