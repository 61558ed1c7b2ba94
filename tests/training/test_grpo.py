"""Reinforcement learning with verifiers: advantages and loss are those of the papers, rollouts are on disk once."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evsys_hydra import registry
from evsys_hydra.benchmark.sandbox import Limits
from evsys_hydra.config import DataConfig, ModelConfig, typed
from evsys_hydra.errors import DataError, EvaluationError
from evsys_hydra.models import load_model
from evsys_hydra.record.files import read_lines
from evsys_hydra.registry import load_plugins
from evsys_hydra.training.context import Row
from evsys_hydra.training.grpo_config import GRPOConfig
from evsys_hydra.training.grpo_loss import GRPOLoss
from evsys_hydra.training.policy import Policy
from evsys_hydra.training.rl.advantages import group_advantages
from evsys_hydra.training.rl.prompts import prompt_of, task_of, tasks_of
from evsys_hydra.training.rl.rewards import Rewards
from evsys_hydra.training.rl.sampling import joined
from evsys_hydra.training.rows import check_data

from .own_samples import KINDS, TASKS
from .parts import WORDS, events, run_kind

PLUGIN = Path(__file__).parent / "letters_reward.py"


def letter_tasks(**params: Any) -> list[Row]:
    """Rewarded by the plugin's verifier for answers with many letters."""
    verifier = {"kind": "in_process", "fn_name": "letters", "expected": 8, "params": params}
    return [{"prompt": f"Say {word}.", "verifier": verifier} for word in WORDS]


def test_advantages_are_relative_to_the_group() -> None:
    rewards = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, None, 1.0, 0.5, 0.0]
    scaled = group_advantages(rewards, 4, scale=True).reshape(3, 4)
    plain = group_advantages(rewards, 4, scale=False).reshape(3, 4)
    np.testing.assert_allclose(plain, np.array([[-0.5, 0.5, 0.5, -0.5], [0, 0, 0, 0], [0, 0.5, 0, -0.5]]))
    np.testing.assert_allclose(scaled[0], plain[0] / (np.sqrt(1 / 3) + 1e-4), rtol=1e-6)
    np.testing.assert_allclose(scaled[2], plain[2] / (0.5 + 1e-4), rtol=1e-6)
    assert not scaled[1].any()


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_the_loss_is_that_of_trl(loss_type: str, tiny: Path, tmp_path: Path) -> None:
    """On answers of different lengths, with a policy that has moved since sampling, clipping and a reference."""
    import torch

    trl: Any = importlib.import_module("trl")
    dataset: Any = importlib.import_module("datasets").Dataset
    model, tokenizer = load_model(ModelConfig(name=str(tiny)))
    settings = trl.GRPOConfig(
        output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, report_to="none", use_cpu=True,
        disable_tqdm=True, beta=0.1, epsilon=0.1, loss_type=loss_type, max_completion_length=9, num_generations=4,
        per_device_train_batch_size=4, temperature=0.7, num_iterations=2, gradient_accumulation_steps=1,
    )  # fmt: skip
    rows = dataset.from_list([{"prompt": "Say ant."}] * 4)
    trainer = trl.GRPOTrainer(
        model, lambda completions, **_: [0.0] * len(completions), settings, train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    prompts = [rng.integers(6, 262, n).tolist() for n in (5, 3, 7, 4)]
    answers = [rng.integers(6, 262, n).tolist() for n in (9, 2, 5, 1)]
    advantages = np.array([1.2, -0.7, 0.4, -0.9], np.float32)
    old, reference = (
        [torch.tensor(rng.normal(-5.6, 0.2, len(answer)), dtype=torch.float32) for answer in answers] for _ in range(2)
    )

    def padded(values: list[Any], fill: float, *, left: bool) -> Any:
        longest = max(map(len, values))
        rows = [
            [*([fill] * (longest - len(v)) * left), *v, *([fill] * (longest - len(v)) * (not left))] for v in values
        ]
        return torch.tensor(rows)

    batch = {
        "prompt_ids": padded(prompts, 0, left=True),
        "prompt_mask": padded([[1] * len(p) for p in prompts], 0, left=True),
        "completion_ids": padded(answers, 0, left=False),
        "completion_mask": padded([[1] * len(a) for a in answers], 0, left=False),
        "advantages": torch.from_numpy(advantages),
        "old_per_token_logps": padded([each.tolist() for each in old], 0.0, left=False),
        "ref_per_token_logps": padded([each.tolist() for each in reference], 0.0, left=False),
        "num_items_in_batch": torch.tensor(sum(map(len, answers))),
    }
    model.train(False)
    trainer.current_gradient_accumulation_steps = 1
    theirs = float(trainer.compute_loss(model, batch).detach())

    config = GRPOConfig(
        lr=1, beta=0.1, epsilon=0.1, loss_type=loss_type, max_tokens=9, temperature=0.7, num_iterations=2
    )
    loss = GRPOLoss(Policy(model, 0), config)
    loss.take([joined(p, a) for p, a in zip(prompts, answers, strict=True)], advantages, old, reference)
    parts = [[0, 2], [1, 3]]
    ours = sum(float(loss(part).detach()) for part in parts) / loss.sizes([0, 1, 2, 3])[1]
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert loss.figures([0, 1, 2, 3])["clip_fraction"] > 0


@pytest.mark.model
def test_reward_rises_with_a_users_verifier(tiny: Path, tmp_path: Path) -> None:
    load_plugins([str(PLUGIN)])
    settings = {"lr": 1e-2, "max_steps": 25, "batch_size": 6, "num_generations": 8, "max_tokens": 8, "log_every": 5}
    result = run_kind("grpo", tmp_path / "arm", tiny, settings, rows=letter_tasks())
    rewards = [line["values"]["reward"] for line in events(tmp_path / "arm", "metrics")]
    assert result.metrics["reward"] > rewards[0] + 0.15
    assert set(result.metrics) == set(GRPOConfig.figures) - {"kl"}


@pytest.mark.model
def test_rollouts_are_recorded_with_their_advantages(tiny: Path, tmp_path: Path) -> None:
    load_plugins([str(PLUGIN)])
    settings = {"max_steps": 2, "batch_size": 3, "num_generations": 4, "max_tokens": 6}
    run_kind("grpo", tmp_path / "arm", tiny, settings, rows=letter_tasks())
    rows = list(read_lines(tmp_path / "arm" / "predictions" / "rollouts.jsonl"))
    assert [row["step"] for row in rows] == [1] * 12 + [2] * 12
    assert {row["kind"] for row in rows} == {"rollout"} and rows[0]["metadata"]["completion_tokens"] > 0
    groups = [rows[start : start + 4] for start in range(0, 24, 4)]
    for group in groups:
        assert len({row["task_id"] for row in group}) == 1 and [row["sample_idx"] for row in group] == [0, 1, 2, 3]
        rewards = np.array([row["reward"] for row in group])
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        np.testing.assert_allclose([row["advantage"] for row in group], expected, atol=1e-3)
    assert len({row["output"] for row in rows}) > 12

    bounded = run_kind("grpo", tmp_path / "few", tiny, {**settings, "record_rollouts": 3}, rows=letter_tasks())
    kept = list(read_lines(tmp_path / "few" / "predictions" / "rollouts.jsonl"))
    assert [(row["step"], row["sample_idx"]) for row in kept] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert bounded.metrics["steps"] == 2

    run_kind("grpo", tmp_path / "arm", tiny, {**settings, "max_steps": 1}, rows=letter_tasks(), seed=5)
    again = list(read_lines(tmp_path / "arm" / "predictions" / "rollouts.jsonl"))
    assert len(again) == 12 and (tmp_path / "arm" / "predictions" / "rollouts.jsonl.old").exists()


@pytest.mark.model
def test_a_verifier_that_always_fails_ends_the_arm_with_its_error(tiny: Path, tmp_path: Path) -> None:
    load_plugins([str(PLUGIN)])
    with pytest.raises(EvaluationError, match=r"none of a step's .* answers could be verified.*no reward today"):
        run_kind("grpo", tmp_path / "arm", tiny, KINDS["grpo"][1], rows=letter_tasks(broken=True))


@pytest.mark.model
def test_answers_that_could_not_be_verified_do_not_count(tiny: Path, tmp_path: Path) -> None:
    load_plugins([str(PLUGIN)])
    rows = [
        *letter_tasks()[:6],
        *({**row, "task_id": f"bad-{n}"} for n, row in enumerate(letter_tasks(broken=True)[:6])),
    ]
    result = run_kind("grpo", tmp_path / "arm", tiny, KINDS["grpo"][1] | {"batch_size": 12, "max_steps": 1}, rows=rows)
    assert result.metrics["errored_rewards"] == 0.5 and result.metrics["reward"] > 0
    bad = [
        row
        for row in read_lines(tmp_path / "arm" / "predictions" / "rollouts.jsonl")
        if row["task_id"].startswith("bad-")
    ]
    assert all(row["reward"] is None and row["advantage"] == 0 and "no reward today" in row["error"] for row in bad)


@pytest.mark.model
def test_passes_without_gradients_shrink_when_memory_runs_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = Policy.logps, list[tuple[bool, int]]()

    def small_memory(self: Policy, sequences: Any, temperature: float = 1.0) -> Any:
        seen.append((self.model.training, len(sequences)))
        if len(sequences) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return plain(self, sequences, temperature)

    monkeypatch.setattr(Policy, "logps", small_memory)
    settings = KINDS["grpo"][1] | {"micro_batch_size": 6, "max_steps": 1}  # 12 answers, and a reference
    result = run_kind("grpo", tmp_path / "a", tiny, settings, rows=TASKS)
    assert seen[:5] == [(False, 6), (False, 3), (False, 3), (False, 3), (False, 3)]
    assert result.extras["micro_batch_size"] == 3


@pytest.mark.model
def test_prompts_without_room_for_an_answer_are_left_out_and_counted(tiny: Path, tmp_path: Path) -> None:
    long = {**TASKS[0], "task_id": "long", "instruction": "Say " + "ant" * 100}
    settings = KINDS["grpo"][1] | {"max_steps": 5}  # an epoch is 4
    result = run_kind("grpo", tmp_path / "a", tiny, settings, rows=[long, *TASKS])
    assert (result.metrics["n_examples"], result.metrics["n_dropped"]) == (12, 1)
    with pytest.raises(DataError, match="none of the 1 prompts leaves room for an answer: the model takes 256 tokens"):
        run_kind("grpo", tmp_path / "b", tiny, settings, rows=[long])


CODE = {"kind": "in_process", "fn_name": "python_tests", "params": {"tests": "assert add(1, 2) == 3"}}


def test_rewards_that_run_code_are_refused_unless_a_sandbox_is_allowed() -> None:
    rows: list[Row] = [{"prompt": "Write add.", "verifier": CODE}]
    (problem,) = check_data(DataConfig(rows=rows), GRPOConfig(lr=1))
    assert "allow it in a sandbox with algorithm.sandbox=bubblewrap" in problem
    assert check_data(DataConfig(rows=rows), GRPOConfig(lr=1, sandbox="bubblewrap")) == []


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap, of the package bubblewrap, is not installed")
@pytest.mark.slow
def test_rewards_come_from_sandboxed_code() -> None:
    tasks = tasks_of([{"prompt": "Write add.", "verifier": CODE}])
    rewards = Rewards(tasks, 10.0, Limits(seconds=2, memory_mb=256))
    answers = ["def add(a, b): return a + b", "def add(a, b): return a - b", "while True: pass"]
    assert [outcome.reward for outcome in rewards([(tasks[0], text) for text in answers])] == [1.0, 0.0, 0.0]


def test_rows_are_tasks_with_prompts_of_three_forms() -> None:
    verifier = {"kind": "in_process", "fn_name": "exact_match", "expected": "a"}
    user, system = {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}
    forms: list[Row] = [
        {"instruction": "Hi", "system_prompt": "Be brief.", "verifier": verifier, "metadata": {"level": 1}},
        {"messages": [system, user], "verifier": verifier},
    ]
    assert [list(prompt_of(row, task_of(row, 1)).messages) for row in forms] == [[system, user]] * 2
    assert prompt_of({"prompt": "Hi", "verifier": verifier}, task_of({"prompt": "Hi", "verifier": verifier}, 7)).id == (
        "row-7"
    )
    with pytest.raises(DataError, match="rows 1 and 2 have the same task_id"):
        tasks_of([TASKS[0], TASKS[0]])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a", "completion": "b"}, "verifier: is missing"),
        ({"verifier": {}}, "messages, prompt or instruction: one of them"),
        ({"prompt": "a", "verifier": {"kind": "in_process", "fn_name": "exakt"}}, "Unknown verifier kind 'exakt'"),
        ({"prompt": "a", "verifier": {"kind": "in_process"}}, "fn_name"),
        ({"prompt": "a", "verifier": {"kind": "llm_judge", "judge_model": "m", "rubric": "r"}}, "'llm_judge' gives no"),
        ({"prompt": 3, "verifier": {"kind": "in_process", "fn_name": "exact_match"}}, "instruction"),
    ],
)
def test_a_row_that_is_no_task_is_refused_before_launch(row: Row, says: str) -> None:
    problems = check_data(DataConfig(rows=[TASKS[0], row]), GRPOConfig(lr=1))
    assert len(problems) == 1 and problems[0].startswith("data.rows[1]: ") and says in problems[0], problems
    assert check_data(DataConfig(generate=typed(registry.datasets, "demo_tasks")), GRPOConfig(lr=1)) == []


@pytest.mark.model
@pytest.mark.slow
def test_the_demo_model_learns_the_style_from_rewards(tmp_path: Path) -> None:
    from evsys_hydra.demo.training_tasks import DemoTrainingTasks, demo_training_tasks

    rows: list[Any] = demo_training_tasks(DemoTrainingTasks())
    settings = {"lr": 1e-4, "max_steps": 25, "batch_size": 8, "num_generations": 8, "max_tokens": 40, "log_every": 5}
    run_kind("grpo", tmp_path / "arm", "demo", settings, rows=rows)
    rewards = [line["values"]["reward"] for line in events(tmp_path / "arm", "metrics")]
    assert rewards[0] < 0.3 and rewards[-1] > rewards[0] + 0.2
