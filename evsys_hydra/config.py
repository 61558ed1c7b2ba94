"""The typed config: what Hydra composed, checked by pydantic with unknown keys forbidden.

`ExperimentConfig` is one arm's whole config (what `--cfg job` prints); `RunConfig` is the part that trains. Parts
chosen by `kind` are typed by the model their registry entry names, so `algorithm.batchsize=8` is an error that lists
the fields of that algorithm.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from . import registry
from .errors import UnknownKind
from .problems import describe_validation

Direction = Literal["maximize", "minimize"]
Scalar = str | int | float | bool | None


class Strict(BaseModel):
    """Base of every config type: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, defer_build=True)


class KindConfig(Strict):
    """Base of the typed settings of a part chosen by `kind`."""

    kind: str
    """Which registered part."""
    in_processes: ClassVar[bool] = False
    """Whether an algorithm can train in several processes (`model.processes`)."""
    in_shards: ClassVar[bool] = True
    """Whether these may hold a part of the model each (`model.parallel: fsdp`)."""
    figures: ClassVar[tuple[str, ...] | None] = None
    """Names of the metrics that an algorithm's runs have in the end; None: not known."""


def typed(part: registry.Registry[Any], value: Any) -> Any:
    """Validate `{kind: ..., <settings>}` by the model that the kind's registry entry names.

    Raises:
        ValueError: an unknown kind with the known ones, or every problem of its settings.
    """
    if isinstance(value, KindConfig):
        return value
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ValueError(f"needs a `kind`: one of {', '.join(part.kinds())}")
    try:
        entry = part.get(value["kind"])
    except UnknownKind as error:
        raise ValueError(str(error)) from error
    model = entry.config or KindConfig
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(describe_validation(error, model))) from error


class LoraConfig(Strict):
    """Low-rank adapters instead of full fine-tuning (needs the `peft` extra)."""

    r: int = Field(8, ge=1)
    """Rank of the adapters."""
    alpha: float = Field(16, gt=0)
    """Scale: the adapter's output is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an adapter."""


class ModelConfig(Strict):
    """Which model is fine-tuned."""

    name: str
    """A directory, a Hugging Face hub name, or `demo`: the small model that ships with evsys_hydra."""
    revision: str | None = None
    """Hub revision (branch, tag or commit)."""
    gguf_file: str | None = None
    """Name of a GGUF file in `name`; its weights are loaded into a plain model."""
    tokenizer: str | None = None
    """Directory or hub name of the tokenizer; null: the model's own."""
    chat_template: str | None = None
    """Path of a Jinja chat template that replaces the tokenizer's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of weights in training and evaluation; auto: bfloat16 on a GPU that has it, else float32."""
    trust_remote_code: bool = False
    """Allow code from the hub to run; off unless you trust it."""
    lora: LoraConfig | None = None
    """Adapters; null: full fine-tuning."""
    processes: int = Field(1, ge=1)
    """Processes that train an arm together on one node, a GPU each where there are GPUs. Where SLURM starts several
    tasks, leave it at 1: each task is one."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work: each holds the whole model (ddp), or a part of it (fsdp)."""


class HubData(Strict):
    """A dataset of the Hugging Face hub (needs the `datasets` package and internet, or a local cache)."""

    name: str
    """Dataset id."""
    config: str | None = None
    """Configuration of the dataset."""
    split: str = "train"
    """Which split, slices such as `train[:1000]` included."""


class DataTemplate(Strict):
    """How rows with other fields become prompt and completion; `{field}` is replaced by the row's field."""

    prompt: str
    """For example "Question: {question}"."""
    completion: str
    """For example "{answer}"."""
    system: str | None = None
    """A system message put first."""


class DataConfig(Strict):
    """The training rows: exactly one of path, rows, hub, generate; then template and transforms in order."""

    path: str | None = None
    """A .jsonl, .json, .csv or .parquet file, or a glob of them."""
    rows: list[dict[str, Any]] | None = None
    """Rows in the config itself."""
    hub: HubData | None = None
    """A dataset of the Hugging Face hub."""
    generate: SerializeAsAny[KindConfig] | None = None
    """Rows made by registered code: {kind: ..., <settings>}."""
    template: DataTemplate | None = None
    """Makes prompt and completion from other fields; null: rows have messages, prompt and completion, or text."""
    transforms: list[SerializeAsAny[KindConfig]] = []
    """Registered transforms, rows to rows, applied in order."""
    limit: int | None = Field(None, ge=1)
    """Use the first N rows after the transforms."""

    @field_validator("generate", mode="before")
    @classmethod
    def _generate(cls, value: Any) -> Any:
        return value if value is None else typed(registry.datasets, value)

    @field_validator("transforms", mode="before")
    @classmethod
    def _transforms(cls, value: Any) -> Any:
        return [typed(registry.transforms, item) for item in value or []]

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        given = [name for name in ("path", "rows", "hub", "generate") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of path, rows, hub, generate must be set; got {given or 'none'}")
        return self


class SandboxLimits(Strict):
    """What one sandboxed program may use; see docs/evaluation.md for what each of them holds."""

    seconds: int = Field(5, ge=1)
    """Time from start to end; below `verifier_timeout`."""
    memory_mb: int = Field(1024, ge=64)
    """Memory of all its processes together, and address space of each."""
    processes: int = Field(32, ge=1)
    """Processes and threads at a time."""
    disk_mb: int = Field(64, ge=1)
    """What it may write, in memory; /tmp is its only place."""
    output_kb: int = Field(64, ge=1)
    """What it may print."""


def check_sandbox(limits: SandboxLimits, verifier_timeout: float) -> None:
    """Raises: ValueError: a program may take longer than the verification that waits for it."""
    if limits.seconds >= verifier_timeout:
        raise ValueError(
            f"sandbox_limits.seconds = {limits.seconds} must be below verifier_timeout = {verifier_timeout:g}; "
            "raise verifier_timeout or lower sandbox_limits.seconds"
        )


class ChatTemplate(Strict):
    """How a task's instruction becomes a prompt."""

    system_prompt: str | None = None
    """System message for tasks that have none of their own."""
    user_template: str | None = None
    """User message; `{instruction}` is replaced. null: the instruction itself."""
    enable_thinking: bool | None = None
    """Passed to chat templates that know it; null: not passed."""


def without_empty(stop: list[str]) -> list[str]:
    """Stop strings as they are; ValueError for an empty one, which would end every answer before it begins."""
    if "" in stop:
        raise ValueError("must not hold an empty string: every answer would end before it begins")
    return stop


class BenchmarkConfig(Strict):
    """One benchmark that every arm is scored on."""

    name: str | None = None
    """What its scores are called; null: the folder's metadata.yaml or the folder's name."""
    path: str | None = None
    """A benchmark folder with tasks.jsonl."""
    generate: SerializeAsAny[KindConfig] | None = None
    """Tasks made by registered code instead of a folder: {kind: ..., <settings>}."""
    id: str | None = None
    """The benchmark's id in the store, if it was uploaded before."""
    breakdown_keys: list[str] = []
    """Dotted paths into a task's metadata; scores are also given for each of their values."""
    cluster_key: str | None = None
    """Dotted path into a task's metadata: tasks with the same value are not independent of each other."""
    tags: list[str] = []
    """`test` marks the primary benchmark, `val` one for in-loop validation."""
    limit: int | None = Field(None, ge=1)
    """Score the first N tasks only."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(0.0, ge=0)
    """0: greedy."""
    num_samples: int = Field(1, ge=1)
    """Samples for each task."""
    stop: list[str] = []
    """An answer ends before the first of these strings."""
    metrics: list[str] = []
    """More metrics than the default ones: pass@k, pass^k, or registered ones."""
    chat_template: ChatTemplate = Field(default_factory=ChatTemplate)
    """How an instruction becomes a prompt."""
    verifier_timeout: float = Field(10.0, gt=0)
    """Seconds that verifying one answer may take."""
    adaptive: bool = False
    """Score in rounds, and stop for groups that can no longer be the best."""
    sandbox: Literal["bubblewrap"] | None = None
    """Allows verifiers that run code (python_tests, kind e2b), in a sandbox; null: they are refused."""
    sandbox_limits: SandboxLimits = Field(default_factory=SandboxLimits)
    """What one sandboxed program may use."""
    run_every: int | None = Field(None, ge=1)
    """Also score the live model each N training steps (in-loop validation)."""
    model: str | None = None
    """An API model that is scored too, once per experiment."""
    models: list[str] = []
    """API models that are scored too, once per experiment."""

    @field_validator("generate", mode="before")
    @classmethod
    def _generate(cls, value: Any) -> Any:
        return value if value is None else typed(registry.benchmarks, value)

    @field_validator("stop")
    @classmethod
    def _stop(cls, value: list[str]) -> list[str]:
        return without_empty(value)

    @model_validator(mode="after")
    def _consistent(self) -> BenchmarkConfig:
        if self.sandbox is not None:
            check_sandbox(self.sandbox_limits, self.verifier_timeout)
        given = [name for name in ("path", "generate") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of path, generate must be set; got {given or 'none'}")
        for metric in self.metrics:
            drawn = re.fullmatch(r"pass(?:@|\^)(\d+)", metric)
            if drawn and not 1 <= int(drawn[1]) <= self.num_samples:
                raise ValueError(f"metric {metric!r} needs num_samples >= {drawn[1]}; it is {self.num_samples}")
            if not drawn:
                try:
                    registry.metrics.get(metric)
                except UnknownKind as error:
                    drawn_too = f"Or pass@k and pass^k, k up to num_samples ({self.num_samples})."
                    raise UnknownKind(f"{error} {drawn_too}") from error
        return self


class Comparison(Strict):
    """The comparison the hypothesis is about, named before the results are known."""

    better: str
    """Group that should be better."""
    than: str
    """Group it should be better than."""


class MetadataConfig(Strict):
    """What the experiment asks, and how its arms are judged."""

    hypothesis: str | None = None
    """What you expect, in words."""
    tags: list[str] = []
    """Labels on the dashboard."""
    project_goal_id: str | None = None
    """Goal of the project in the store that this experiment serves."""
    success_metric: str | None = None
    """Ranks the groups: a metric of the primary benchmark, `benchmark.metric`, or a training metric."""
    direction: Direction | None = None
    """null: minimize for known losses, else maximize."""
    baseline: str | None = None
    """A group that all are compared with, or `base`: the untrained base model."""
    compare: Comparison | None = None
    """The pre-registered comparison."""
    min_effect: float | None = Field(None, gt=0)
    """Smallest difference that matters, in the metric's unit; set beforehand it allows `equivalent`."""
    benchmark: list[BenchmarkConfig] = []
    """One benchmark or a list."""

    @field_validator("benchmark", mode="before")
    @classmethod
    def _benchmarks(cls, value: Any) -> Any:
        if value is None:
            return []
        return [value] if isinstance(value, dict | BenchmarkConfig) else value

    @model_validator(mode="after")
    def _adaptive(self) -> MetadataConfig:
        primary = next((entry for entry in self.benchmark if "test" in entry.tags), next(iter(self.benchmark), None))
        for entry in self.benchmark:
            allowed = [f"{entry.name}.{key}" for key in ("pass_rate", "mean_reward")] if entry.name else []
            allowed += ["pass_rate", "mean_reward"] if entry is primary else []
            if entry.adaptive and self.success_metric not in allowed:
                raise ValueError(
                    f"benchmark.adaptive=true stops groups that can no longer be the best by its own pass_rate or "
                    f"mean_reward, but success_metric is {self.success_metric!r}; set success_metric to one of "
                    f"{', '.join(allowed) or 'those of a named benchmark'}, or benchmark.adaptive=false"
                )
            if entry.adaptive and entry.cluster_key is not None:
                raise ValueError("benchmark.adaptive=true needs independent tasks; it cannot be set with cluster_key")
        return self


class ContinualConfig(Strict):
    """One training after another on other data: a chain of stages, each from the weights of the one before."""

    datasets: list[str | dict[str, Any]] | None = Field(None, min_length=1)
    """The data of each stage: an option of the data group, a file, or fields of `data`; null: no chain."""


class StageConfig(Strict):
    """What a stage of a recipe has of its own; all else is as in the arm."""

    algorithm: str | dict[str, Any] | None = None
    """An option of the algorithm group, or fields of `algorithm`; null: the arm's."""
    data: str | dict[str, Any] | None = None
    """An option of the data group, a file, or fields of `data`; null: the arm's."""
    lr: float | None = Field(None, gt=0)
    """Learning rate; null: the arm's."""


class StartFrom(Strict):
    """Where a stage begins; written by the sweep, not by hand."""

    arm: str
    """The stage before."""
    hash: str
    """Its config_hash."""
    experiment: str | None = None
    """Directory of the experiment that has the stage before; null: this one."""
    checkpoint: str | None = None
    """Its weights; null: looked up when the stage starts."""


class RunConfig(Strict):
    """What one arm trains."""

    name: str
    """The arm's name; unique in the experiment."""
    group: str
    """Name shared by the arms that differ only in seed."""
    seed: int
    """Drives initialisation, data order, sampling and dropout."""
    model: ModelConfig
    data: DataConfig
    algorithm: SerializeAsAny[KindConfig]
    inference: SerializeAsAny[KindConfig]
    tags: list[str] = []


class ExperimentConfig(Strict):
    """One arm's whole config, as composed; all arms of an experiment share everything but what was swept."""

    name: str
    """The experiment's name."""
    arm: str | None = None
    """The arm's name; null: made from what was swept."""
    group: str | None = None
    """The arm's group; null: the arm's name without its seed."""
    name_template: str | None = None
    """Format of arm names, for example "{model}-lr{lr}-s{seed}"; null: key=value of each swept field."""
    lr: float = Field(gt=0)
    """Learning rate; algorithms refer to it."""
    seed: int = Field(0, ge=0)
    """Drives initialisation, data order, sampling and dropout; a swept seed makes replicates."""
    n_repeats: int = Field(1, ge=1)
    """Shorthand for a seed axis: base_seed, base_seed + 1, ..."""
    base_seed: int | None = Field(None, ge=0)
    """First seed of n_repeats; null: `seed`."""
    model: ModelConfig
    data: DataConfig
    algorithm: SerializeAsAny[KindConfig]
    inference: SerializeAsAny[KindConfig]
    benchmark: Any = None
    """The benchmark group; metadata.benchmark refers to it."""
    benchmarks: Any = None
    """A list of benchmarks that takes the place of metadata.benchmark."""
    metadata: MetadataConfig = Field(default_factory=MetadataConfig)
    store: SerializeAsAny[KindConfig]
    tracker: dict[str, SerializeAsAny[KindConfig]] = {}
    """Experiment trackers that mirror the records, by name: tracker=[tensorboard,mlflow]; {}: none."""
    continual: ContinualConfig = Field(default_factory=ContinualConfig)
    """Stages on one dataset after another instead of one training."""
    recipe: dict[str, StageConfig] | None = None
    """Stages by name, in order (sft, then dpo) instead of one training."""
    start_from: StartFrom | None = None
    """Where a stage begins; written by the sweep."""
    dry: bool = False
    """A few steps and tasks of every arm, to see that it works and what it would take; nothing is concluded."""
    tags: list[str] = []
    """Labels of the run on the dashboard."""
    plugins: list[str] = []
    """Your own modules (names or .py files) that register verifiers, transforms, algorithms, ..."""
    resume: str | None = None
    """An experiment's directory, or `last`: run there what this command asks for and has not completed."""
    experiments: Any = None
    """The experiment folder this config came from."""

    @field_validator("algorithm", mode="before")
    @classmethod
    def _algorithm(cls, value: Any) -> Any:
        return typed(registry.algorithms, value)

    @field_validator("inference", mode="before")
    @classmethod
    def _inference(cls, value: Any) -> Any:
        return typed(registry.inference, value)

    @field_validator("store", mode="before")
    @classmethod
    def _store(cls, value: Any) -> Any:
        return typed(registry.stores, value)

    @field_validator("tracker", mode="before")
    @classmethod
    def _tracker(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value or {}
        named = {name: {"kind": name, **part} if isinstance(part, dict) else part for name, part in value.items()}
        return {name: typed(registry.trackers, part) for name, part in named.items()}

    @model_validator(mode="before")
    @classmethod
    def _list_of_benchmarks(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("benchmarks") is not None:
            return {**value, "metadata": {**(value.get("metadata") or {}), "benchmark": value["benchmarks"]}}
        return value

    @model_validator(mode="after")
    def _processes(self) -> ExperimentConfig:
        if self.model.processes > 1 and not self.algorithm.in_processes:
            raise ValueError(
                f"model.processes={self.model.processes}: algorithm {self.algorithm.kind!r} trains in one process; "
                "sft, dpo, grpo and sdft train in several"
            )
        if self.model.parallel == "fsdp" and not self.algorithm.in_shards:
            raise ValueError(
                f"model.parallel=fsdp: {self.algorithm.kind!r} samples from the model, which every process must hold "
                "whole; use model.parallel=ddp"
            )
        return self

    @property
    def run(self) -> RunConfig:
        """The part of this config that trains."""
        return RunConfig(
            name=self.arm or self.name,
            group=self.group or self.arm or self.name,
            seed=self.seed,
            model=self.model,
            data=self.data,
            algorithm=self.algorithm,
            inference=self.inference,
            tags=self.tags,
        )
