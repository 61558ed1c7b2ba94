"""One sweep from the driver's side: the experiment's directory, its arms, and the end that always comes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from ..arm import Parts
from ..errors import ConfigError, StoreError
from ..record import ArmView, ExperimentRecord
from ..record.queues import arm_views
from ..results import ExperimentResult
from ..secrets import referenced, scrub
from .adopt import adopt
from .check import Checker
from .compose import Composer
from .driver import Driver, drive
from .plan import Arm, known_arms, plan, write, write_clusters

if TYPE_CHECKING:
    from ..config import KindConfig
    from ..store import EvsysStore
    from ..store.sync import SyncReport
    from ..store.sync.tail import Tailer
    from ..trackers.process import Following


STORE_PATIENCE_S = 20.0
QUEUE_PATIENCE_S = 60.0


@dataclass
class Session:
    """A sweep that this process drives.

    Args:
        composer: composes its arms.
        master: the config composed for the whole sweep.
        directory: where the experiment is recorded.
        parts: what the caller put in place of what the config names.
        store: where the records also go; None: where the config says, if uses_store.
        left: None: this process concludes. Else it leaves that to others (SLURM's finalizer), and exits with this.
        resumes: the experiment is there already; what it has completed, or somebody runs, is left alone.
        concluded: called when this process has concluded, so that nobody else needs to.
        names: the arms that this sweep asks for.
        elsewhere: the arms of the experiment that somebody else runs, or that have a job.
    """

    composer: Composer
    master: DictConfig
    directory: Path
    parts: Parts = field(default_factory=Parts)
    store: EvsysStore | None = None
    record: ExperimentRecord | None = None
    result: ExperimentResult | None = None
    requested: list[list[Arm]] = field(default_factory=list)
    baselines: list[Arm] = field(default_factory=list)
    left: int | None = None
    uses_store: bool = True
    resumes: bool = False
    concluded: Callable[[], None] = lambda: None
    names: set[str] = field(default_factory=set)
    elsewhere: list[ArmView] = field(default_factory=list)
    driver: Driver | None = None
    _tailer: Tailer | None = None
    _trackers: Following | None = None

    def prepare(self, overrides: Sequence[Sequence[str]], swept_keys: Sequence[str]) -> list[Path]:
        """Plan arms and write their directories.

        Args:
            overrides: one list for each arm that was asked for; n_repeats makes several arms of each.
            swept_keys: the keys that are varied, apart from n_repeats' seed.

        Returns:
            Directories of all arms to run, baselines first; of a resumed experiment those that are missing.

        Raises:
            ConfigError, RecordError: nothing was launched.
        """
        repeated = [repeat(self.master, list(words)) for words in overrides]
        keys = [*swept_keys, *(["seed"] if any(len(group) > 1 for group in repeated) else [])]
        if self.resumes and self.record is None:
            self.record = ExperimentRecord.load(self.directory)
            self.driver = drive(self.directory)
            self.record = ExperimentRecord.load(self.directory)  # as the last driver left it
        known = known_arms(self.record) if self.record and not self.resumes else {}
        arms = plan(
            self.composer,
            [words for group in repeated for words in group],
            swept_keys=keys,
            known=known,
            checker=Checker(data=self.parts.train_fn is None, benchmarks=self.parts.benchmark is None),
            baselines=self.parts.train_fn is None and self.parts.inference_factory is None,
        )
        if self.record is None:
            self.record = self._create(arms)
            self.driver = drive(self.directory)
        new = adopt(self.record, arms) if self.resumes else arms
        own = iter(arm for arm in arms if arm.role == "arm")
        self.requested = [[next(own) for _ in group] for group in repeated]
        self.baselines = [arm for arm in arms if arm.role == "baseline"]
        self.names.update(arm.name for arm in arms)
        ordered = [*self.baselines, *(arm for arm in arms if arm.role != "baseline")]
        directories = write(self.record, [arm for arm in ordered if arm in new]) if new else []
        if self.resumes:
            directories = self._missing(ordered)
            if directories and not new:
                self.record.begin_generation()
        if self.parts.benchmark is None:
            write_clusters(self.record, arms)
        if not arms[0].config.dry:
            self._follow(arms[0].config.store)
        if arms[0].config.tracker and not arms[0].config.dry and self._trackers is None:
            from ..trackers.process import follow

            self._trackers = follow(self.directory)
        return directories

    def _missing(self, arms: Sequence[Arm]) -> list[Path]:
        """Of these arms of a resumed experiment those that are to be run."""
        assert self.record is not None
        views = {view.directory.name: view for view in arm_views(self.record, patience_s=QUEUE_PATIENCE_S)}
        asked = [views[arm.name] for arm in arms]
        self.elsewhere = [view for view in views.values() if view.state == "running" or is_queued(view)]
        missing = [view.directory for view in asked if view.state != "completed" and view not in self.elsewhere]
        completed = sum(view.state == "completed" for view in asked)
        print(
            f"{completed} completed, {len(self.elsewhere)} queued or running, {len(missing)} to run: {self.directory}",
            file=sys.stderr,
        )
        return missing

    def returns(self) -> list[JobReturn]:
        """One JobReturn for each requested arm; its value is the success metric, averaged over n_repeats.

        The value of an arm that failed is None: reading it never raises, so that no sweeper stops before the end.
        """
        from .collect import read_arm

        found = []
        for group in self.requested:
            assert self.record is not None
            scores = []
            for arm in group:
                result = read_arm(ArmView(self.record.arm_directory(arm.name)))
                metric = arm.config.metadata.success_metric
                scores.append(result.score(metric) if metric and result.status == "completed" else None)
            known = [score for score in scores if score is not None]
            job = JobReturn(overrides=group[0].composed.overrides, cfg=group[0].composed.task)
            job.status = JobStatus.COMPLETED
            job.return_value = sum(known) / len(known) if known else None
            found.append(job)
        return found

    def close(self) -> SyncReport | None:
        """Bring store and trackers up to date with the concluded experiment; never raises, and never takes long.

        Returns:
            What was sent and what still waits on disk; None without a store.
        """
        if self._trackers is not None:
            self._trackers.stop()
        if self.driver is not None:
            self.driver.release()
        if self._tailer is None or self.store is None:
            return None
        from ..causes import describe
        from ..store.sync import SyncReport, sync

        self._tailer.stop()
        try:
            return sync(self.directory, self.store, budget_s=STORE_PATIENCE_S)
        except Exception as error:  # whatever an injected store raises: the records are on disk
            return SyncReport(error=describe(error))

    def _follow(self, settings: KindConfig) -> None:
        """Send records to the store while the arms run."""
        if self._tailer is not None or (self.store is None and (not self.uses_store or settings.kind == "none")):
            return
        from ..store import open_store
        from ..store.sync.tail import Tailer

        try:
            self.store = self.store or open_store(settings)
        except StoreError as error:
            print(f"The store cannot be used now; the records stay in {self.directory}. {error}", file=sys.stderr)
            return
        self._tailer = Tailer(self.directory, self.store)
        self._tailer.start()

    def _create(self, arms: Sequence[Arm]) -> ExperimentRecord:
        config = arms[0].config
        metadata = config.metadata.model_dump(mode="json")
        secrets = referenced(str(OmegaConf.to_container(arms[0].composed.task, resolve=False)))
        return ExperimentRecord.create(
            self.directory,
            name=config.name,
            metadata=orjson.loads(scrub(orjson.dumps(metadata).decode(), secrets)),
            store=config.store.kind,
            launcher=OmegaConf.to_container(self.master.hydra.launcher, resolve=False)
            if OmegaConf.select(self.master, "hydra.launcher") is not None
            else None,
            base_seed=config.base_seed,
            **({"dry": True} if config.dry else {}),
        )


def repeat(master: DictConfig, overrides: list[str]) -> list[list[str]]:
    """An arm's overrides for each of the n_repeats seeds.

    Raises:
        ConfigError: seeds were given as well.
    """
    repeats = int(OmegaConf.select(master, "n_repeats") or 1)
    if repeats <= 1:
        return [overrides]
    if any(word.lstrip("+~").startswith("seed=") for word in overrides):
        raise ConfigError(
            f"n_repeats={repeats} and a seed override are two ways to say the same. "
            "Use n_repeats with base_seed, or -m seed=0,1,2."
        )
    first = OmegaConf.select(master, "base_seed")
    first = OmegaConf.select(master, "seed") if first is None else first
    return [[*overrides, f"seed={first + number}"] for number in range(repeats)]


_begun: dict[Path, Session] = {}


def begin(loader: ConfigLoader, master: DictConfig, directory: Path) -> Session:
    """The session of a directory: a new one, or the one this process began before."""
    directory = directory.resolve()
    if directory not in _begun:
        resumes = bool(OmegaConf.select(master, "resume"))
        _begun[directory] = Session(Composer(loader, master), master, directory, resumes=resumes)
    return _begun[directory]


def begun() -> list[Session]:
    """Every session that this process began."""
    return list(_begun.values())


def is_queued(view: ArmView) -> bool:
    """Whether a cluster has a job for an arm that has not completed."""
    return view.queue is not None and view.state != "completed"


def swept_keys(overrides: Sequence[str], fixed: Sequence[str]) -> list[str]:
    """The keys of an arm's overrides that the sweep varies, given what the command line fixed."""
    keys = dict.fromkeys(word.lstrip("+").split("=", 1)[0] for word in overrides if word not in fixed)
    return [key for key in keys if not key.startswith(("hydra.", "hydra/")) and key not in ("arm", "group")]


def launcher_settings(master: DictConfig) -> dict[str, Any]:
    """n_jobs and timeout_min of the `isolated` launcher, if that is the one that is configured."""
    launcher = OmegaConf.select(master, "hydra.launcher")
    if launcher is None or "n_jobs" not in launcher:
        return {}
    return {"n_jobs": launcher.n_jobs, "timeout_min": launcher.timeout_min}
