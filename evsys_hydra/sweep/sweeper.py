"""The sweeper: a grid over the swept fields, planned and checked as a whole before the first arm starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from .plainly import plainly
from .plan import Arm
from .resume import await_elsewhere, resume_in
from .session import Session, begin
from .show import announce


class ArmsSweeper(BasicSweeper):
    """Hydra's basic sweeper, except that every arm is checked before the first starts and none can end the sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        with plainly():
            resume_in(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Expand the arguments into arms, run them all, and return what each gave."""
        with plainly():
            return self._sweep(arguments)

    def _sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        overrides, keys = expand(parsed)
        directory = Path(str(self.config.hydra.sweep.dir))
        session = begin(self.hydra_context.config_loader, self.config, directory)
        directories = session.prepare(overrides, keys)
        OmegaConf.save(self.config, directory / "multirun.yaml")
        announce(session)
        run_arms = getattr(self.launcher, "run_arms", None)
        if run_arms is None:
            self.launcher.launch(_named(session), initial_job_idx=0)
        elif directories:
            run_arms(session, directories)
        await_elsewhere(session)
        return [session.returns()]


def expand(overrides: Sequence[Override]) -> tuple[list[list[str]], list[str]]:
    """All combinations of the swept values, and the keys that are swept.

    Raises:
        ConfigError: an axis without values, or one that a grid cannot enumerate.
    """
    axes: dict[str, list[str]] = {}
    swept: dict[str, bool] = {}
    for override in overrides:
        key = override.get_key_element()
        swept[key.lstrip("+")] = override.is_sweep_override()
        if not override.is_sweep_override():
            axes[key] = [f"{key}={override.get_value_element_as_str()}" if not override.is_delete() else key]
            continue
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: a grid needs values to enumerate. Use key=a,b,c or range(start,stop,step), "
                "or a sweeper that searches intervals: hydra/sweeper=optuna."
            )
        axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        if not axes[key]:
            raise ConfigError(f"{override.input_line}: this axis has no values, so the sweep would have no arms.")
    return [list(combination) for combination in itertools.product(*axes.values())], [
        key for key, is_swept in swept.items() if is_swept
    ]


def _named(session: Session) -> list[list[str]]:
    """The planned arms as overrides for a launcher that composes by itself: each with its name and group."""
    assert session.record is not None
    arms: list[Arm] = [*session.baselines, *(arm for group in session.requested for arm in group)]
    return [[*arm.composed.overrides, f"arm='{arm.name}'", f"group='{arm.group}'"] for arm in arms]
