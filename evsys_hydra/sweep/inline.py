"""One arm inside a launcher that calls the task function itself (Hydra's basic launcher, joblib, ...).

Exceptions and sys.exit stay in the arm. What ends the process ends the sweep: that needs `isolated` or a cluster.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ..arm import Parts, fail, live
from ..composed import load_config, typed_config
from ..record import ArmRecord, ArmView
from ..record.files import write_json


def run_inline(config: DictConfig) -> float | None:
    """Run one arm in this process; returns its success metric, None if it failed."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    if ArmView(directory).state == "completed":
        return None
    if not (directory / "arm.json").exists():
        OmegaConf.save(config, directory / "config.yaml")
        write_json(directory / "arm.json", {"name": directory.name, "group": directory.name, "seed": config.seed})
    record = ArmRecord(directory)
    record.start()
    try:
        return live(typed_config(config), record)
    except (Exception, SystemExit) as error:
        fail(record, error)
        return None


def run_in_process(directory: Path, parts: Parts) -> float | None:
    """Run a planned arm in this process with injected parts; returns its success metric, None if it failed.

    A baseline trains nothing and brings its own model: of the parts only the benchmark is meant for it.
    """
    if ArmView(directory).role == "baseline":
        parts = Parts(benchmark=parts.benchmark)
    record = ArmRecord(directory)
    record.start()
    try:
        return live(typed_config(load_config(directory / "config.yaml")), record, parts)
    except (Exception, SystemExit) as error:
        fail(record, error)
        return None
