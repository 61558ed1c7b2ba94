"""`evsys-hydra new SLUG`: a folder for one experiment that runs as it is."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from .errors import ConfigError

CONFIG = """\
# {title}
#   python -m evsys_hydra experiments={name}
#   python {folder}/run.py
defaults:
  - override /model: demo
  - override /data: demo
  - override /benchmark: demo

name: {slug}
plugins: [plugins.py]

data:
  transforms:
    - kind: {slug}_long_answers_last

metadata:
  hypothesis: A learning rate of 3e-5 elicits the answer format better than 1e-5.
  compare: {{better: lr=3e-5, than: lr=1e-5}}
  min_effect: 0.05

hydra:
  mode: MULTIRUN
  sweeper:
    params:
      lr: 1e-5,3e-5
"""

RUN = '''\
"""Run this experiment from Python. The same: python -m evsys_hydra experiments={name}"""

from pathlib import Path

from evsys_hydra import Experiment

if __name__ == "__main__":
    result = Experiment.from_yaml(Path(__file__).with_name("config.yaml")).run()
    raise SystemExit(0 if result.status == "completed" else 1)
'''

PLUGINS = '''\
"""Parts of this experiment's own; the names stand in config.yaml and in a benchmark's tasks.jsonl."""

from typing import Any

from evsys_hydra import KindConfig, register_transform, register_verifier


class LongAnswersLast(KindConfig):
    """Settings of the transform, typed: a misspelt key in config.yaml is an error that names it."""

    reverse: bool = False
    """Long answers first instead."""


@register_transform("{slug}_long_answers_last", config=LongAnswersLast)
def long_answers_last(rows: list[dict[str, Any]], config: LongAnswersLast) -> list[dict[str, Any]]:
    """Sort the training rows by the length of their answer."""
    return sorted(rows, key=lambda row: len(row["messages"][-1]["content"]), reverse=config.reverse)


@register_verifier("{slug}_same_letters")
def same_letters(output: str, expected: Any, params: dict[str, Any]) -> float:
    """1 if the output has the expected letters in any order, else 0."""
    return float(sorted(output.strip()) == sorted(str(expected)))
'''


def new_experiment(slug: str, root: Path, today: datetime.date | None = None) -> Path:
    """Write experiments/<yyyymmdd>_<slug>/ below `root`.

    Returns:
        The folder, relative to `root` if that is the working directory.

    Raises:
        ConfigError: a slug that is no identifier, or a folder that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise ConfigError(f"slug {slug!r}: use small letters, digits and _, a letter first: for example lr_sweep")
    name = f"{today or datetime.date.today():%Y%m%d}_{slug}"
    folder = root / "experiments" / name
    if folder.exists():
        raise ConfigError(f"{folder} exists already. Choose another slug, or edit that one.")
    folder.mkdir(parents=True)
    words = {"slug": slug, "name": name, "folder": f"experiments/{name}", "title": slug.replace("_", " ").capitalize()}
    for file, text in (("config.yaml", CONFIG), ("run.py", RUN), ("plugins.py", PLUGINS)):
        (folder / file).write_text(text.format(**words))
    return folder.relative_to(root) if root == Path.cwd() else folder
