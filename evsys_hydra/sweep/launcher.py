"""What our launchers have in common: how Hydra sets them up, and arms that a sweeper chooses as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from .plainly import plainly
from .session import Session, begin, swept_keys


class ArmsLauncher(Launcher):
    """Runs arms' directories; a subclass says how in `run_arms`."""

    config: DictConfig | None = None
    hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """For sweepers that choose arms as they go (Optuna): plan these arms, run them, give their values."""
        with plainly():
            return self._launch(job_overrides)

    def run_arms(self, session: Session, directories: Sequence[Path]) -> None:
        """Run planned arms to their end; never raises for what an arm does."""
        raise NotImplementedError

    def _launch(self, job_overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        assert self.config is not None and self.hydra_context is not None
        if OmegaConf.select(self.config, "resume"):
            raise ConfigError(f"resume={self.config.resume}: only a grid can be resumed (hydra/sweeper=arms).")
        session = begin(self.hydra_context.config_loader, self.config, Path(str(self.config.hydra.sweep.dir)))
        fixed = list(self.config.hydra.overrides.task)
        keys = list(dict.fromkeys(key for words in job_overrides for key in swept_keys(words, fixed)))
        self.run_arms(session, session.prepare(job_overrides, keys))
        return session.returns()
