"""Start-up: `python -m evsys_hydra --help` and `--cfg job` against a bare Hydra application, in one run.

python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """\
import hydra

@hydra.main(version_base="1.3", config_path=None, config_name=None)
def app(config):
    pass

app()
"""


def seconds(command: list[str], cwd: Path) -> float:
    """Wall time of one whole process."""
    started = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        for flags in (["--help"], ["--cfg", "job"]):
            ours = [sys.executable, "-m", "evsys_hydra", *flags]
            theirs = [sys.executable, str(bare), *flags]
            seconds(ours, Path(folder)), seconds(theirs, Path(folder))
            pairs = [(seconds(ours, Path(folder)), seconds(theirs, Path(folder))) for _ in range(runs)]
            mine, bare_s = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{' '.join(flags):10} evsys_hydra {mine:.3f} s   bare Hydra {bare_s:.3f} s   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
