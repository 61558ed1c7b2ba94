"""`python -m evsys_hydra`: one run, or with -m a sweep. Hydra composes; see conf/config.yaml for what can be set."""

from __future__ import annotations

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .sweep.hydra_setup import config_directory, set_up_hydra

set_up_hydra()


@hydra.main(version_base="1.3", config_path=config_directory(), config_name="config")
def application(config: DictConfig) -> float | None:
    """What Hydra calls: in a sweep one arm, else the driver of an experiment with one arm."""
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from .sweep.inline import run_inline

        return run_inline(config)
    from .sweep.single import run_single

    return run_single()


def main() -> None:
    """The console entry: runs, and exits with 0 (completed) or 1 (failed, or no conclusion written)."""
    from .errors import EvsysError

    status = 0
    try:
        application()
    except EvsysError as error:
        print(error, file=sys.stderr)
        status = 1
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    if "evsys_hydra.sweep.session" in sys.modules:  # an experiment may have begun: its end must come
        from .sweep.finish import finish_all

        status = max(status, finish_all())
    sys.exit(status)


if __name__ == "__main__":
    main()
