"""The Python door: the same composition, sweep and conclusion as `python -m evsys_hydra`.

Experiment.from_yaml("experiments/20261122_lr_sweep/config.yaml").run()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arm import InferenceFactory, Parts, TrainFn
from .config import ExperimentConfig
from .results import ExperimentResult

if TYPE_CHECKING:
    from .benchmark import Benchmark
    from .store import EvsysStore
    from .sweep.open import Source


class Experiment:
    """One hypothesis and its arms.

    Args:
        config: the config of the arms, before anything is swept.
        sweep: field -> values; the arms are all combinations. Fields are dotted, as on the command line.
        store: where records also go; None: they stay in the experiment's directory.
        train_fn: trains an arm instead of the config's algorithm: (ExperimentConfig) -> [RunResult].
        benchmark: scored instead of the config's benchmark.
        inference_factory: (RunResult, RunConfig) -> a client that answers for the trained arm; called once for each
            completed arm.
        output_dir: the experiment's directory; None: outputs/<name>/<time>.

    With train_fn, benchmark or inference_factory the arms run one after another in this process, so that the given
    objects are called here; what ends the process then ends the experiment. Without, each arm has its own process.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        sweep: Mapping[str, Sequence[Any]] | None = None,
        store: EvsysStore | None = None,
        train_fn: TrainFn | None = None,
        benchmark: Benchmark | None = None,
        inference_factory: InferenceFactory | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        from .sweep.open import fixed_source

        self.store = store
        self.parts = Parts(train_fn, benchmark, inference_factory)
        self.output_dir = Path(output_dir) if output_dir is not None else None
        self._source: Source = fixed_source(config, sweep or {})

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        *,
        overrides: Sequence[str] = (),
        store: EvsysStore | None = None,
        train_fn: TrainFn | None = None,
        benchmark: Benchmark | None = None,
        inference_factory: InferenceFactory | None = None,
        output_dir: str | Path | None = None,
    ) -> Experiment:
        """Compose an experiment from a file on top of conf/config.yaml, as `experiments=<folder>` does.

        Args:
            path: the experiment's config.yaml; its `hydra.sweeper.params` are the swept fields.
            overrides: words as on the command line; `lr=1e-5,3e-5` sweeps.

        Raises:
            ConfigError: a config that cannot run.
        """
        from .sweep.open import file_source

        experiment = cls.__new__(cls)
        experiment.store = store
        experiment.parts = Parts(train_fn, benchmark, inference_factory)
        experiment.output_dir = Path(output_dir) if output_dir is not None else None
        experiment._source = file_source(Path(path), overrides)
        return experiment

    def run(self) -> ExperimentResult:
        """Run every arm, rank the groups, write the conclusion.

        Raises:
            ConfigError, RecordError: before anything was launched.
        """
        from .sweep.finish import finish
        from .sweep.inline import run_in_process
        from .sweep.isolated import run_local
        from .sweep.session import launcher_settings

        session = self._source.session(self.output_dir, self.parts, self.store)
        directories = session.prepare(self._source.overrides, self._source.swept)
        if self.parts == Parts():
            run_local(session, directories, **launcher_settings(session.master))
        else:
            for directory in directories:
                run_in_process(directory, self.parts)
        return finish(session)
