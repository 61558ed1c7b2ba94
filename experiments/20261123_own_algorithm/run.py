"""Run this experiment from Python. The same: python -m evsys_hydra experiments=20261123_own_algorithm"""

from pathlib import Path

from evsys_hydra import Experiment

if __name__ == "__main__":
    result = Experiment.from_yaml(Path(__file__).with_name("config.yaml")).run()
    raise SystemExit(0 if result.status == "completed" else 1)
