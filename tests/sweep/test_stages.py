"""Chains: each stage starts where the one before ended, a failed one stops its chain only, resuming goes on."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from evsys_hydra import Experiment, RunResult
from evsys_hydra.errors import ConfigError
from evsys_hydra.record import ArmView, ExperimentRecord
from evsys_hydra.record.files import read_json
from evsys_hydra.sweep.chain import chains
from evsys_hydra.sweep.conclude import conclude
from evsys_hydra.sweep.validate import validate_words
from tests.conftest import ROOT, Run

if TYPE_CHECKING:
    import torch

CARRIED = [
    "algorithm=carried",
    f"plugins=[{ROOT / 'tests/parts/noop.py'},{ROOT / 'tests/parts/carried.py'}]",
    "metadata.baseline=null",
]


@pytest.fixture
def datasets(tmp_path: Path) -> dict[str, Path]:
    """Files of one row; that of "bad" cannot be trained on."""
    found = {name: tmp_path / f"{name}.jsonl" for name in ("first", "second", "bad")}
    for name, path in found.items():
        path.write_text(json.dumps({"prompt": "raise" if name == "bad" else name, "completion": "x"}) + "\n")
    return found


def arms(experiment: Path) -> dict[str, ArmView]:
    record = ExperimentRecord.load(experiment)
    return {name: ArmView(record.arm_directory(name)) for name in record.arm_names}


def started_at(view: ArmView) -> float:
    return float(view.result["metrics"]["started_at"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["isolated", "basic", "submitit_local"])
def test_each_stage_starts_from_the_one_before(
    sweep: Run, tmp_path: Path, datasets: dict[str, Path], launcher: str
) -> None:
    first, second, _ = datasets.values()
    words = [f"continual.datasets=[{first},{second}]", "name=chain", "seed=0,1", f"hydra/launcher={launcher}"]
    done = sweep(*CARRIED, *words)
    assert done.returncode == 0, done.stderr
    found = arms(tmp_path / "exp")
    assert list(found) == ["chain,seed=0_stage0", "chain,seed=0_stage1", "chain,seed=1_stage0", "chain,seed=1_stage1"]
    for seed in (0, 1):
        before, after = found[f"chain,seed={seed}_stage0"], found[f"chain,seed={seed}_stage1"]
        assert (started_at(before), started_at(after)) == (0.1, 0.4)
        assert (before.role, after.role) == ("stage", "arm")
        assert (before.group, after.group) == ("chain_stage0", "chain")
        config = yaml.safe_load((after.directory / "config.yaml").read_text())
        assert config["tags"] == ["continual", "stage:1"] and config["data"]["path"] == str(second)
        assert config["start_from"]["arm"] == before.name
    conclusion = read_json(tmp_path / "exp" / "conclusion.json")
    assert "2/2 arms completed." in conclusion["conclusion"]
    assert list(conclusion["verdict"]["arms"]) == ["chain"] and list(conclusion["verdict"]["references"]) == [
        "chain_stage0"
    ]
    scores = conclusion["chains"][0]["scores"]["tasks"]
    assert scores[0] < scores[1] and conclusion["chains"][0]["forgetting"]["tasks"] == scores[0] - scores[1]
    assert "| tasks | " in (tmp_path / "exp" / "conclusion.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["isolated", "basic", "submitit_local"])
def test_a_failed_stage_stops_its_chain_only(
    sweep: Run, tmp_path: Path, datasets: dict[str, Path], launcher: str
) -> None:
    first, second, bad = datasets.values()
    lists = f"continual.datasets=[{first},{second}],[{first},{bad},{second}]"
    done = sweep(*CARRIED, lists, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    states = [(view.facts["stage"]["label"], view.cause) for view in arms(tmp_path / "exp").values()]
    ok = [("stage0", None), ("stage1", None)]
    assert states == [*ok, ("stage0", None), ("stage1", "user_error"), ("stage2", "never_started")]
    *_, failed, last = arms(tmp_path / "exp").values()
    assert last.error is not None and failed.name in last.error and "this data does not work" in last.error
    assert "1/2 arms completed." in read_json(tmp_path / "exp" / "conclusion.json")["conclusion"]


@pytest.mark.slow
def test_resume_goes_on_with_the_first_missing_stage(sweep: Run, tmp_path: Path, datasets: dict[str, Path]) -> None:
    first, second, bad = datasets.values()
    assert sweep(*CARRIED, f"continual.datasets=[{first},{bad},{second}]", "name=chain").returncode == 1
    bad.write_text(json.dumps({"prompt": "mended", "completion": "x"}) + "\n")
    done = subprocess.run(
        ["evsys-hydra", "resume", str(tmp_path / "exp")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = list(arms(tmp_path / "exp").values())
    assert [view.attempt for view in found] == [1, 2, 2]
    assert [started_at(view) for view in found] == pytest.approx([0.1, 0.4, 0.7])


@pytest.mark.slow
def test_a_recipe_has_named_stages_that_can_be_swept(sweep: Run, tmp_path: Path, datasets: dict[str, Path]) -> None:
    stages = {
        "warm": {"algorithm": {"gain": 0.2}, "data": str(datasets["first"]), "lr": None},
        "main": {"algorithm": "carried", "data": str(datasets["second"]), "lr": 0.5},
    }
    recipe = json.dumps(stages).replace('"', "")
    done = sweep(*CARRIED, f"+recipe={recipe}", "recipe.main.lr=0.1,0.2")
    assert done.returncode == 0, done.stderr
    found = arms(tmp_path / "exp")
    assert list(found) == ["lr=0.1_warm", "lr=0.1_main", "lr=0.2_warm", "lr=0.2_main"]
    assert [view.result["metrics"]["lr"] for view in found.values()] == [3e-5, 0.1, 3e-5, 0.2]
    assert started_at(found["lr=0.2_main"]) == pytest.approx(0.3)
    assert set(conclude(tmp_path / "exp").ranking["arms"]) == {"lr=0.1", "lr=0.2"}
    assert found["lr=0.1_warm"].facts["config_hash"] == found["lr=0.2_warm"].facts["config_hash"]
    assert found["lr=0.1_main"].facts["config_hash"] != found["lr=0.2_main"].facts["config_hash"]


@pytest.mark.slow
def test_a_stage_without_a_checkpoint_to_start_from_is_an_error(
    sweep: Run, tmp_path: Path, datasets: dict[str, Path]
) -> None:
    first, second, _ = datasets.values()
    sweep(*CARRIED, f"continual.datasets=[{first},{second}]", "algorithm.keeps=false", "name=chain")
    last = arms(tmp_path / "exp")["chain_stage1"]
    assert last.cause == "user_error"
    assert last.error is not None and "chain_stage0 left no checkpoint to start from" in last.error


def test_what_a_train_fn_sees_of_its_stage(tmp_path: Path, datasets: dict[str, Path]) -> None:
    seen = []

    def train_fn(config):  # type: ignore[no-untyped-def]
        seen.append((config.arm, config.data.path, config.start_from and config.start_from.checkpoint))
        path = tmp_path / f"{config.arm}.bin"
        path.write_text("weights")
        return [RunResult(config.arm, artifacts={"checkpoint": str(path)})]

    first, second, _ = datasets.values()
    (tmp_path / "config.yaml").write_text("name: chain\nmetadata: {success_metric: null, baseline: null}\n")
    words = [f"continual.datasets=[{first},{second}]", "metadata.benchmark=null"]
    result = Experiment.from_yaml(
        tmp_path / "config.yaml", overrides=words, train_fn=train_fn, output_dir=tmp_path / "exp"
    ).run()
    assert [arm.name for arm in result.arms] == ["chain_stage1"]
    assert [arm.name for arm in result.stages] == ["chain_stage0"]
    assert seen == [
        ("chain_stage0", str(first), None),
        ("chain_stage1", str(second), str(tmp_path / "chain_stage0.bin")),
    ]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("continual.datasets=[]", "continual.datasets"),
        ("+recipe={a:{algorithn:sft}}", "recipe.a.algorithn: unknown field (did you mean 'algorithm'?)"),
        ("+recipe={a:{algorithm:nothing}}", "Unknown algorithm kind 'nothing'"),
        ("+recipe={a:{algorithm:{batchsize:1}}}", "batchsize: unknown field"),
        ("continual.datasets=[there_is_none.jsonl]", "there_is_none.jsonl"),
        ("+recipe={}", "has no stages"),
    ],
)
def test_what_is_wrong_with_a_chain_is_said_before_launch(word: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate_words([word])
    assert problem in str(error.value)


def test_the_shipped_recipe_trains_a_second_stage_by_preferences() -> None:
    words = ["recipe=sft_dpo", "recipe.dpo.lr=1e-5,3e-5", "metadata.baseline=null"]
    found = validate_words(words).facts["arms"]
    assert [arm["name"] for arm in found] == ["lr=1e-5_sft", "lr=1e-5_dpo", "lr=3e-5_sft", "lr=3e-5_dpo"]


def test_units_of_work_are_chains(tmp_path: Path) -> None:
    def arm(name: str, after: str | None = None, staged: bool = True) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        facts = {"stage": {"after": after}} if staged else {}
        (directory / "arm.json").write_text(json.dumps({"name": name, "group": name, **facts}))
        return directory

    base, a0, a1, b0, b1 = arm("base", staged=False), arm("a0"), arm("a1", "a0"), arm("b0"), arm("b1", "b0")
    assert chains([base, a0, a1, b0, b1]) == [[base], [a0, a1], [b0, b1]]
    assert chains([b1, a0, a1]) == [[b1], [a0, a1]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.training.parts import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.model
@pytest.mark.slow
def test_adapters_and_whole_weights_follow_each_other(tmp_path: Path, tiny: Path) -> None:
    """The weights that are evaluated are those that were trained: of each stage, over all stages before it."""
    import torch

    from evsys_hydra.arm import run_arm
    from evsys_hydra.composed import load_plain, typed_config
    from evsys_hydra.models import load_model
    from evsys_hydra.starting import start_of

    lora, other = {"r": 4, "alpha": 8.0}, {"r": 2, "alpha": 8.0}
    plan = [("full", None), ("adapters", lora), ("same", lora), ("other", other), ("whole", None)]
    before: str | None = None
    states: dict[str, dict[str, torch.Tensor]] = {}
    (tmp_path / "experiment.json").write_text("{}")
    for name, adapters in plan:
        directory = tmp_path / "arms" / name
        directory.mkdir(parents=True)
        write_arm(directory, tiny, adapters, before)
        assert run_arm(directory) == 0, ArmView(directory).error
        config = typed_config(load_plain(directory / "config.yaml"))
        checkpoint = directory / ArmView(directory).result["artifacts"]["checkpoint"]
        loaded, _ = load_model(start_of(config, directory).model, checkpoint)
        merged = loaded.merge_and_unload() if adapters else loaded  # type: ignore[operator]
        states[name] = merged.state_dict()
        before = name
    how = [next(ArmView(tmp_path / "arms" / name).events("start"))["how"] for name, _ in plan[1:]]
    assert how == ["weights", "adapters", "merged", "merged"]
    base, _ = load_model(typed_config(load_plain(tmp_path / "arms" / "full" / "config.yaml")).model)
    untouched = "model.embed_tokens.weight"  # adapters are on linear layers only
    assert not torch.equal(states["full"][untouched], base.state_dict()[untouched])
    assert all(
        torch.equal(states[name][untouched], states["full"][untouched]) for name in ("adapters", "same", "other")
    )
    linear = "model.layers.0.mlp.up_proj.weight"
    ranks = [rank(states[later][linear] - states[earlier][linear]) for earlier, later in itertools.pairwise(states)]
    assert (ranks[0], ranks[2]) == (4, 2), ranks
    assert rank(states["same"][linear] - states["full"][linear]) == 4  # the same adapters, trained on
    steps = float((states["whole"][linear] - states["other"][linear]).abs().max())
    assert 0 < steps < 0.0035  # three steps of at most 1e-3 from the merged weights


def rank(matrix: torch.Tensor) -> int:
    """How many singular values are more than rounding."""
    values = matrix.double().svd().S
    return int((values > 1e-5 * values[0]).sum())


def write_arm(directory: Path, model: Path, lora: dict[str, float] | None, before: str | None) -> None:
    """What a sweep would have written."""
    config = {
        "name": "chain",
        "arm": directory.name,
        "lr": 1e-3,
        "model": {"name": str(model), "lora": lora},
        "data": {"rows": [{"prompt": "Say ant.", "completion": "ant"}, {"prompt": "Say bear.", "completion": "bear"}]},
        "algorithm": {"kind": "sft", "lr": 1e-3, "max_steps": 3, "batch_size": 2, "schedule": "constant", "warmup": 0},
        "inference": {"kind": "local"},
        "store": {"kind": "none"},
        "start_from": {"arm": before, "hash": "0"} if before else None,
    }
    hydra = {"job": {}, "callbacks": {"conclude": {"_target_": "evsys_hydra.sweep.callback.Conclude"}}}
    hydra["job_logging"] = {"version": 1}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "hydra.yaml").write_text(yaml.safe_dump(hydra))
    (directory / "arm.json").write_text(json.dumps({"name": directory.name, "group": directory.name}))
