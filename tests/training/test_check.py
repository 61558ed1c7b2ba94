"""What could not be trained is refused before anything is launched."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from omegaconf import open_dict

from evsys_hydra.composed import typed_config
from evsys_hydra.config import ExperimentConfig
from evsys_hydra.errors import ConfigError
from evsys_hydra.sweep.check import Checker
from evsys_hydra.sweep.dry import shortened
from evsys_hydra.sweep.open import compose
from evsys_hydra.sweep.success_metric import success_metric_problem
from evsys_hydra.sweep.validate import validate_words
from evsys_hydra.training.sft_config import SFTConfig

VAL = "{name: val, generate: {kind: demo, n: 3}, tags: [val]%s}"
TEST = "{name: test, generate: {kind: demo, n: 3}, tags: [test]}"


def composed(*words: str, run_every: int | None = None) -> Any:
    entry = VAL % ("" if run_every is None else f", run_every: {run_every}")
    _, master = compose([*words, f"benchmarks=[{entry},{TEST}]", "store=none"])
    with open_dict(master):
        del master["hydra"]
    return master


def watching(metric: str) -> str:
    return f"+algorithm.early_stopping={{metric: {metric}}}"


def problems(config: Any) -> str:
    checker = Checker()
    checker.check("arm", config)
    return "\n".join(checker.problems)


@pytest.mark.parametrize(
    ("words", "run_every", "said"),
    [
        (
            [watching("val.pass_rate")],
            None,
            "metric = 'val.pass_rate', but no benchmark is scored during training: set run_every on the benchmark "
            "(there is val, test)",
        ),
        ([watching("vall.pass_rate")], 7, "is not scored during training (did you mean 'val.pass_rate'?): write one"),
        ([watching("test.pass_rate")], 7, "val.n_tasks, val.n_errors, or set run_every on another benchmark"),
        ([watching("val.pass_rat")], 7, "'val.pass_rat' is not scored during training (did you mean 'val.pass_rate'?)"),
        (["model.name=nobody/nothing"], None, "'nobody/nothing': it is not in the hub's cache. HF_HUB_OFFLINE is"),
        (["metadata.success_metric=pas_rate"], None, "'pas_rate' will have no value (did you mean 'pass_rate'?)"),
        (["metadata.success_metric=val.pass@2"], None, "metrics: val.mean_reward, val.pass_rate, val.n_tasks"),
        (["metadata.success_metric=train_los"], None, "(did you mean 'train_loss'?)"),
        (
            ["model.dtype=float16"],
            None,
            "model.dtype = 'float16' cannot be trained in (its gradients underflow): ",
        ),
    ],
)
def test_what_cannot_be_trained_is_said(
    words: list[str], run_every: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert said in problems(composed(*words, run_every=run_every))


def test_what_can_be_trained_is_not_refused() -> None:
    assert problems(composed(watching("val.pass_rate"), run_every=7)) == ""
    assert problems(composed("algorithm=none", "model.dtype=float16")) == ""
    for metric in ("pass_rate", "val.mean_reward", "train_loss_mean", "n_truncated", "null"):
        assert problems(composed(f"metadata.success_metric={metric}")) == ""


@pytest.mark.parametrize(("recipe", "metric"), [("sft_dpo", "reward_margin"), ("sft_grpo", "reward")])
@pytest.mark.slow
def test_a_recipe_is_ranked_by_a_figure_of_its_last_stage(recipe: str, metric: str) -> None:
    words = [f"recipe={recipe}", "store=none"]
    validate_words([*words, f"metadata.success_metric={metric}"])
    with pytest.raises(ConfigError, match="'n_truncated' will have no value"):
        validate_words([*words, "metadata.success_metric=n_truncated"])


def test_an_algorithm_that_inherits_settings_may_have_metrics_of_its_own() -> None:
    class OwnConfig(SFTConfig):
        kind: Literal["own"] = "own"  # type: ignore[assignment]

    config = typed_config(composed("metadata.success_metric=own_score"))
    assert success_metric_problem(config) is not None
    own = OwnConfig.model_validate({**config.algorithm.model_dump(), "kind": "own"})
    assert success_metric_problem(config.model_copy(update={"algorithm": own})) is None


def test_a_dry_run_scores_in_the_loop_too() -> None:
    config: ExperimentConfig = typed_config(composed(run_every=100))
    assert [entry.run_every for entry in shortened(config).metadata.benchmark] == [5, None]
