"""What our launchers have in common towards Hydra: they load the real one when a sweep starts."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LazyLauncher(Launcher):
    """Passes everything on to `real`, so that Hydra's scan of plugins stays fast.

    Args:
        params: the launcher's settings, as its config names them.
    """

    real: ClassVar[str]
    """"module:class" of the launcher behind it."""

    def __init__(self, **params: Any) -> None:
        module, name = self.real.split(":")
        self._launcher = getattr(import_module(module), name)(**params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        returns: Sequence[JobReturn] = self._launcher.launch(job_overrides, initial_job_idx)
        return returns

    def run_arms(self, session: Any, directories: Sequence[Path]) -> None:
        """Run the arms that the sweeper planned."""
        self._launcher.run_arms(session, directories)
