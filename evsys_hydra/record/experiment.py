"""An experiment's directory: who it is, and where its arms are.

experiment.json   id, name, generation, metadata, command, git, versions, arms
git.diff          what differed from the commit, if anything
arms/<name>/      see record.arm
conclusion.json, conclusion.md, ranking.csv
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RecordError
from . import provenance
from .files import read_json, write_json

FILE = "experiment.json"


class ExperimentRecord:
    """Reads and writes experiment.json.

    Args:
        directory: the experiment's directory.
        facts: the content of experiment.json.
    """

    def __init__(self, directory: Path, facts: dict[str, Any]) -> None:
        self.directory = directory
        self.facts = facts

    @classmethod
    def create(cls, directory: Path, *, name: str, metadata: Mapping[str, Any], **facts: Any) -> ExperimentRecord:
        """Make a new experiment in `directory`.

        Raises:
            RecordError: the directory holds an experiment already, or cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if (directory / FILE).exists():
                raise RecordError(
                    f"{directory} already holds an experiment. Choose another hydra.sweep.dir, "
                    f"or finish that one: evsys-hydra resume {directory}"
                )
            record = cls(
                directory,
                {
                    "id": uuid.uuid4().hex,
                    "name": name,
                    "generation": 0,
                    "created": time.time(),
                    "metadata": dict(metadata),
                    "command": provenance.command_line(),
                    "cwd": os.getcwd(),
                    "git": provenance.git(directory / "git.diff"),
                    "versions": provenance.versions(),
                    "hardware": provenance.hardware(),
                    "arms": [],
                    **facts,
                },
            )
            record.save()
        except OSError as error:
            raise RecordError(
                f"Cannot write the experiment's directory {directory}: {error.strerror or error}. "
                "Nothing was launched. Choose another with hydra.sweep.dir=... (hydra.run.dir=... without -m)."
            ) from error
        return record

    @classmethod
    def load(cls, directory: Path) -> ExperimentRecord:
        """Open an existing experiment.

        Raises:
            RecordError: the directory holds none.
        """
        facts = read_json(directory / FILE)
        if not isinstance(facts, dict):
            names = sorted(path.name for path in directory.iterdir())[:8] if directory.is_dir() else []
            raise RecordError(
                f"{directory} is not an experiment's directory: it has no readable {FILE} "
                f"(found: {', '.join(names) or 'nothing'}). "
                "Give the directory that the sweep printed, for example outputs/<name>/<time>."
            )
        return cls(directory, facts)

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms, baselines included, in the order they were planned."""
        return list(self.facts["arms"])

    def require_arms(self) -> None:
        """Raises: RecordError, if its driver ended before it had written any arm."""
        if not self.arm_names:
            raise RecordError(
                f"{self.directory} has no arms yet: its driver ended while it planned them, and nothing was started. "
                f"Give the sweep's command again, with resume={self.directory}"
            )

    def arm_directory(self, name: str) -> Path:
        return self.directory / "arms" / name

    def add_arms(self, names: Sequence[str]) -> None:
        """Count `names` in, and begin a new generation: an earlier conclusion is stale from now on."""
        known = set(self.facts["arms"])
        self.facts["arms"] += [name for name in names if name not in known]
        self.begin_generation()

    def begin_generation(self) -> None:
        """Make an earlier conclusion stale: arms are about to run."""
        self.facts["generation"] += 1
        self.save()

    def save(self) -> None:
        write_json(self.directory / FILE, self.facts)
