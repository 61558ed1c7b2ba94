"""One arm inside a launcher that calls the task function itself (Hydra's basic launcher, joblib, ...).

Exceptions and sys.exit stay in the arm. What ends the process ends the sweep: that needs `isolated` or a cluster.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ..arm import Parts, fail, live
from ..composed import load_plain, typed_config
from ..record import ArmRecord, ArmView
from ..record.files import write_json
from .chain import chain_of, start_next


def run_inline(config: DictConfig) -> float | None:
    """Run one arm in this process; returns its success metric, None if it failed."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    if not (directory / "arm.json").exists():
        OmegaConf.save(config, directory / "config.yaml")
        write_json(directory / "arm.json", {"name": directory.name, "group": directory.name, "seed": config.seed})
    values = [run_in_process(stage, Parts()) for stage in chain_of(directory) if ArmView(stage).state != "completed"]
    return values[-1] if values else None


def run_in_process(directory: Path, parts: Parts) -> float | None:
    """Run a planned arm in this process with injected parts; returns its success metric, None if it failed.

    A baseline trains nothing and brings its own model: of the parts only the benchmark is meant for it.
    """
    if not start_next([directory]):
        return None
    if ArmView(directory).role == "baseline":
        parts = Parts(benchmark=parts.benchmark)
    record = ArmRecord(directory)
    record.start()
    try:
        return live(typed_config(load_plain(directory / "config.yaml")), record, parts)
    except (Exception, SystemExit) as error:
        fail(record, error)
        return None
