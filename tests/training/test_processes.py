"""Several processes train one arm: as one process would, to the same bits when resumed, and none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import registry
from evsys_hydra.config import ExperimentConfig, KindConfig, LoraConfig, ModelConfig
from evsys_hydra.errors import ConfigError
from evsys_hydra.models import merge_adapters
from evsys_hydra.record import ArmView
from evsys_hydra.record.files import read_lines
from evsys_hydra.starting import _merge as merge_for_stage
from evsys_hydra.training.distributed import _own_gpu, launched_ranks
from evsys_hydra.training.errors import RankFailed
from evsys_hydra.training.processes import _gpus, apart
from evsys_hydra.training.stepping import Stepper

from .killer import kill_at_disk_call
from .own_samples import KINDS, PAIRS
from .parts import events, make_tiny_model, run_kind, run_sft, weights_hash

pytestmark = pytest.mark.model
ROOT = Path(__file__).resolve().parents[2]
LORA = LoraConfig(r=2, dropout=0.1)
SETTINGS = {"max_steps": 10, "batch_size": 5, "save_every_steps": 3, "log_every": 1, "keep_last": 2}


@pytest.fixture(autouse=True)
def computed_before() -> Iterator[None]:
    """This process has computed with several threads, of which none is in its forks."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    torch.randn(1 << 20).exp().sum()
    yield
    torch.set_num_threads(threads)


def children() -> set[int]:
    """This process's children; other tests of this session may have left some."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def losses(directory: Path) -> list[float]:
    return [line["values"]["loss"] for line in events(directory, "metrics")]


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize(("processes", "parallel"), [(2, "ddp"), (3, "ddp"), (2, "fsdp")])
def test_the_loss_curve_is_that_of_one_process(
    tiny: Path, tmp_path: Path, lora: LoraConfig | None, processes: int, parallel: str
) -> None:
    """12 examples in steps of 5: an epoch's last step has 2, which leaves a third rank without any."""
    from safetensors.torch import load_file

    one = run_sft(tmp_path / "one", tiny, SETTINGS, lora=lora)
    several = run_sft(tmp_path / "several", tiny, SETTINGS, lora=lora, processes=processes, parallel=parallel)
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert several.metrics["tokens"] == one.metrics["tokens"]
    a, b = (load_file(next(Path(run.artifacts["checkpoint"]).glob("*.safetensors"))) for run in (one, several))
    assert a.keys() == b.keys()
    assert all((a[name] - b[name]).abs().max() < 1e-6 for name in a)


def test_sharded_weights_are_spread_over_the_ranks(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Stepper.step

    def step(self: Stepper, members: Any, lr: float) -> Any:
        kept = sum(parameter.to_local().numel() for parameter in self._parameters())  # type: ignore[attr-defined]
        whole = sum(parameter.numel() for parameter in self._parameters())
        assert kept == whole // 2
        return plain(self, members, lr)

    monkeypatch.setattr(Stepper, "step", step)
    run_sft(tmp_path / "a", tiny, processes=2, parallel="fsdp")


class Scored:
    """An in-loop eval that asks the model, in the one process that it runs in."""

    every = 2

    def __init__(self) -> None:
        self.values = iter([0.5, 0.4, 0.3, 0.2])

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        import torch

        ids = torch.tensor([tokenizer("Say cat.")["input_ids"]])
        made = model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert made.shape[1] > ids.shape[1]
        return {"val.pass_rate": next(self.values)}


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_first_rank_evaluates_and_all_stop_early(tiny: Path, tmp_path: Path, parallel: str) -> None:
    settings = SETTINGS | {"early_stopping": {"metric": "val.pass_rate", "patience": 2}}
    result = run_sft(tmp_path / "a", tiny, settings, in_loop=[Scored()], processes=2, parallel=parallel)
    assert result.metrics["steps"] == 6 and result.extras["checkpoint_step"] == 2
    assert Path(result.artifacts["checkpoint"]).name == "best-step-00000002"
    run_sft(tmp_path / "b", tiny, SETTINGS, processes=2, parallel=parallel)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")[:6]


def in_rank(rank: int, number: int, act: Callable[[], object]) -> Callable[..., Any]:
    """A Stepper.step that acts before the number-th step of a rank."""
    plain, left = Stepper.step, [number]

    def step(self: Stepper, members: Any, lr: float) -> Any:
        if self.ranks.rank == rank:
            left[0] -= 1
            if left[0] == 0:
                act()
        return plain(self, members, lr)

    return step


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("parallel", "lora"), [("ddp", None), ("ddp", LORA), ("fsdp", None)], ids=["ddp", "ddp-lora", "fsdp"]
)
def test_a_rank_that_is_killed_ends_the_others_and_the_resumed_bits_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str, lora: LoraConfig | None
) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    context: dict[str, Any] = {"processes": 2, "parallel": parallel, "lora": lora}
    whole = run_sft(tmp_path / "whole", model, SETTINGS, **context)
    for rank in (0, 1):
        directory = tmp_path / f"killed-{rank}"
        monkeypatch.setattr(Stepper, "step", in_rank(rank, 5, kill_self))
        started = time.monotonic()
        with pytest.raises(RankFailed, match=rf"rank {rank} of 2: Killed: .* SIGKILL") as caught:
            run_sft(directory, model, SETTINGS, **context)
        assert caught.value.arm_cause == "killed" and time.monotonic() - started < 15
        monkeypatch.undo()
        resumed = run_sft(directory, model, SETTINGS, **context)
        assert [line["step"] for line in events(directory, "resumed")] == [3]
        assert weights_hash(resumed) == weights_hash(whole)
        assert losses(directory)[-7:] == losses(tmp_path / "whole")[-7:]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_killed_inside_a_save_two_processes_resume_to_the_same_bits(tmp_path: Path, parallel: str) -> None:
    import torch.distributed.fsdp  # noqa: F401  before the calls are counted

    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    whole = weights_hash(run_sft(tmp_path / "whole", model, SETTINGS, processes=2, parallel=parallel))
    killed = 0
    for number in range(1, 200, 7):
        directory = tmp_path / f"killed-{number}"
        plain, wrapped = Stepper.step, in_rank(0, 2, lambda n=number: kill_at_disk_call(n))  # type: ignore[misc]
        Stepper.step = wrapped  # type: ignore[method-assign]
        try:
            run_sft(directory, model, SETTINGS, processes=2, parallel=parallel)
            break
        except RankFailed:
            killed += 1
        finally:
            Stepper.step = plain  # type: ignore[method-assign]
        assert weights_hash(run_sft(directory, model, SETTINGS, processes=2, parallel=parallel)) == whole
    assert killed >= 5


@pytest.mark.parametrize(("lora", "parallel"), [(None, "ddp"), (LoraConfig(r=2), "ddp"), (None, "fsdp")])
def test_preferences_are_learned_as_by_one_process(
    tiny: Path, tmp_path: Path, lora: LoraConfig | None, parallel: str
) -> None:
    """The loss curve, and the figures of pairs that the ranks share."""
    settings = {**SETTINGS, "beta": 0.5}
    one = run_kind("dpo", tmp_path / "one", tiny, settings, rows=PAIRS, lora=lora)
    two = run_kind("dpo", tmp_path / "two", tiny, settings, rows=PAIRS, lora=lora, processes=2, parallel=parallel)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    for name in ("preference_accuracy", "reward_margin", "tokens", "n_examples"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["grpo", "sdft"])
@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["full", "lora"])
def test_own_samples_are_those_of_one_process(tiny: Path, tmp_path: Path, kind: str, lora: LoraConfig | None) -> None:
    """5 prompts a step and 3 ranks: the first step's answers are the same, and the curve follows."""
    rows, own = KINDS[kind]
    settings = {**own, "batch_size": 5, "max_steps": 3, "log_every": 1, **({"beta": 0.1} if kind == "grpo" else {})}
    one = run_kind(kind, tmp_path / "one", tiny, settings, rows=rows, lora=lora)
    several = run_kind(kind, tmp_path / "several", tiny, settings, rows=rows, lora=lora, processes=3)
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "one"), rel=1e-3, abs=1e-5)
    assert set(several.metrics) == set(one.metrics)
    if kind == "grpo":
        path = Path("predictions", "rollouts.jsonl")
        first, second = (list(read_lines(tmp_path / name / path)) for name in ("one", "several"))
        of_a_step = 5 * settings["num_generations"]
        assert len(first) == len(second) == len(rows) * settings["num_generations"]  # an epoch in 3 steps
        outputs = [
            [(row["task_id"], row["sample_idx"], row["output"], row["advantage"]) for row in rows[:of_a_step]]
            for rows in (first, second)
        ]
        assert outputs[0] == outputs[1]


def test_the_error_of_a_rank_is_the_error_of_the_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        raise ValueError("no such row")

    monkeypatch.setattr(Stepper, "step", in_rank(1, 2, act))
    before = children()
    with pytest.raises(RankFailed, match="rank 1 of 2: ValueError: no such row") as caught:
        run_sft(tmp_path / "a", tiny, SETTINGS, processes=2)
    assert "in act" in str(caught.value.__cause__) and caught.value.arm_cause == "user_error"
    assert children() == before


def test_adapters_are_merged_in_a_process_of_their_own(tiny: Path, tmp_path: Path) -> None:
    before = run_sft(tmp_path / "before", tiny, lora=LORA)
    assert apart(os.getpid) != os.getpid()
    merge_for_stage(ModelConfig(name=str(tiny)), Path(before.artifacts["checkpoint"]), tmp_path / "out", processes=2)
    merge_adapters(ModelConfig(name=str(tiny)), Path(before.artifacts["checkpoint"]), tmp_path / "here")
    assert weights_hash(tmp_path / "out") == weights_hash(tmp_path / "here")
    with pytest.raises(ConfigError, match="holds no adapters"):
        apart(merge_adapters, ModelConfig(name=str(tiny)), tiny, tmp_path / "none")


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_apart_is_named_with_its_cause() -> None:
    with pytest.raises(RankFailed, match="the process of kill_oneself ended before it was done") as caught:
        apart(kill_oneself)
    assert caught.value.arm_cause == "killed"


def test_events_go_on_after_those_of_the_ranks(tiny: Path, tmp_path: Path) -> None:
    from evsys_hydra.record import ArmRecord
    from evsys_hydra.record.files import read_lines

    from .parts import make_context, sft_config

    context = make_context(tmp_path / "a", tiny, processes=2)
    from evsys_hydra.training.sft import train

    train(sft_config(), context)
    assert isinstance(context.record, ArmRecord)
    context.record.event("eval")
    ids = [line["id"] for line in read_lines(tmp_path / "a" / "events.jsonl")]
    assert len(ids) == len(set(ids)) > 5


def test_processes_that_the_launcher_started_train_together(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SLURM's tasks do, the first in the arm's directory, the others beside it; killed and started once more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    directories = [tmp_path / "arm", tmp_path / "arm" / "ranks" / "1"]

    def tasks() -> list[int]:
        pids = []
        for rank, directory in enumerate(directories):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.environ["RANK"] = str(rank)
                    run_sft(directory, tiny, SETTINGS)
                    code = 0
                finally:
                    os._exit(code)
            pids.append(pid)
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

    def leave() -> None:
        os._exit(3)

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as thread:  # that has computed nothing
        patched.setattr(Stepper, "step", in_rank(1, 5, leave))
        assert thread.submit(tasks).result() == [1, 3]
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(tasks).result() == [0, 0]
    assert [line["step"] for line in events(tmp_path / "arm", "resumed")] == [3]
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    alike = run_sft(tmp_path / "alike", tiny, SETTINGS, processes=2)
    assert weights_hash(tmp_path / "arm" / "checkpoints" / "final") == weights_hash(alike)
    assert not list(directories[1].glob("checkpoints/*"))


def test_as_many_processes_as_the_launcher_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launched_ranks(1) == launched_ranks(2) == 2
    with pytest.raises(ConfigError, match=r"model\.processes=3, but this arm was launched as 2 tasks"):
        launched_ranks(3)


def test_a_process_that_has_used_a_gpu_says_that_its_forks_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    two = ModelConfig(name="demo", processes=2)
    assert _gpus(two) == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match=r"has used a GPU already .* hydra/launcher=isolated"):
        _gpus(two)


def test_a_rank_takes_the_gpu_of_its_number_where_it_sees_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert (_own_gpu(1), _own_gpu(4)) == (0, 2)
    with pytest.raises(ConfigError, match="LOCAL_RANK=2, but this node has 2 GPUs"):
        _own_gpu(2)


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("alone", {"processes": 2}, r"model\.processes=2: algorithm 'alone' trains in one process"),
        ("grpo", {"processes": 2, "parallel": "fsdp"}, r"model\.parallel=fsdp: 'grpo' samples from the model"),
    ],
)
def test_what_cannot_train_in_several_processes_says_so(kind: str, model: dict[str, Any], said: str) -> None:
    class AloneConfig(KindConfig):
        lr: float

    registry.register_algorithm("alone", config=AloneConfig)(lambda config, context: None)
    config = {
        "name": "a",
        "lr": 1e-4,
        "model": {"name": "demo", **model},
        "data": {"rows": [{"prompt": "a", "chosen": "b", "rejected": "c"}]},
        "algorithm": {"kind": kind, "lr": 1e-4},
        "inference": "local",
        "store": "none",
    }
    try:
        with pytest.raises(ValueError, match=said):
            ExperimentConfig.model_validate(config)
    finally:
        del registry.algorithms.entries["alone"]


PLUGIN = """
import os, signal, time
from evsys_hydra.training.stepping import Stepper

plain = Stepper.step

def step(self, members, lr):
    if self.ranks.rank == 1 and os.environ.get("FAIL") == "raise":
        raise ValueError("rank one cannot")
    if os.environ.get("FAIL") == "wait":
        time.sleep(60)
    return plain(self, members, lr)

Stepper.step = step
"""


def arm_of(tmp_path: Path, *, fail: str) -> subprocess.Popen[str]:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "evsys_hydra", "model.processes=2", "algorithm.max_steps=6", "store=none"]
    command += [f"plugins=[{tmp_path / 'plugin.py'}]", f"hydra.run.dir={tmp_path / 'exp'}"]
    command += ["benchmark.limit=8", "metadata.baseline=null"]
    environment = {**os.environ, "FAIL": fail}
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def the_arm(tmp_path: Path) -> ArmView:
    return ArmView(tmp_path / "exp" / "arms" / "demo")


@pytest.mark.slow
def test_an_arm_of_two_processes_from_the_command_line(tmp_path: Path) -> None:
    done = arm_of(tmp_path, fail="no")
    text, _ = done.communicate(timeout=120)
    assert done.returncode == 0, text[-3000:]
    arm = the_arm(tmp_path)
    assert arm.state == "completed"
    assert next(line["values"] for line in events(arm.directory, "metrics"))["loss"] > 0
    assert events(arm.directory, "eval")[-1]["metrics"]["pass_rate"] >= 0


@pytest.mark.slow
def test_the_record_has_the_cause_of_a_rank(tmp_path: Path) -> None:
    arm_of(tmp_path, fail="raise").communicate(timeout=120)
    status = the_arm(tmp_path).status
    assert status["state"] == "failed" and status["cause"] == "user_error"
    assert "rank 1 of 2: ValueError: rank one cannot" in status["error"]
    assert 'raise ValueError("rank one cannot")' in status["traceback"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ranks_end_with_their_arm(tmp_path: Path, number: signal.Signals) -> None:
    running = arm_of(tmp_path, fail="wait")
    ranks: list[int] = []
    deadline = time.monotonic() + 60
    while len(ranks) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        ranks = children_of(the_arm(tmp_path).status.get("pid"))
    assert len(ranks) == 2
    os.kill(int(the_arm(tmp_path).status["pid"]), number)
    running.communicate(timeout=60)
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline, "a rank outlived its arm"
        time.sleep(0.05)
    assert the_arm(tmp_path).state == "failed"


def children_of(pid: int | None) -> list[int]:
    """The running processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat") if pid else ():
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found
