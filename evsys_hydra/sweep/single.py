"""A run without -m: an experiment of one arm (or of n_repeats), which ends the same way as a sweep."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .isolated import run_local
from .plainly import plainly
from .resume import await_elsewhere, resume_in
from .session import begin, launcher_settings
from .show import announce


def run_single() -> float | None:
    """Run the composed config as one arm beside its baseline; returns its success metric."""
    with plainly():
        return _run()


def _run() -> float | None:
    master = HydraConfig.instance().cfg
    assert isinstance(master, DictConfig)
    own = Path(master.hydra.runtime.output_dir)
    resumed = resume_in(master)
    session = begin(GlobalHydra.instance().config_loader(), master, resumed or own)
    directories = session.prepare([list(master.hydra.overrides.task)], [])
    announce(session)
    if resumed is not None:
        with contextlib.suppress(OSError):
            own.rmdir()  # Hydra made it, and nothing was put there
    if directories:
        run_local(session, directories, **launcher_settings(master))
    await_elsewhere(session)
    value: float | None = session.returns()[0].return_value
    return value
