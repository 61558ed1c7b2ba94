"""One contract, held by every store that keeps records: local, in safe mode too, PostgreSQL, and the gateway."""

from __future__ import annotations

import inspect

import pytest

from evsys_hydra.dashboard.operations import NAMES
from evsys_hydra.errors import StoreError
from evsys_hydra.store import BulkStore, EvsysStore, MetricPoint, UnknownId
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.none import NoneStore
from evsys_hydra.store.postgres import PostgresStore


def test_projects_and_goals(store: BulkStore) -> None:
    project = store.create_project("tiny", description="d")
    assert store.get_project(project["id"])["name"] == "tiny"
    assert store.current_goal(project_id=project["id"]) is None
    first = store.set_goal("be right", project_id=project["id"])
    second = store.set_goal("be fast", project_id=project["id"])
    assert (first["version"], second["version"]) == (1, 2)
    assert [goal["goal"] for goal in store.list_goals(project_id=project["id"])] == ["be right", "be fast"]
    assert store.current_goal(project_id=project["id"])["id"] == second["id"]
    store.create_experiment("e", project_id=project["id"])
    store.delete_project(project["id"])
    assert store.get_project(project["id"]) is None
    assert store.list_experiments(project_id=project["id"]) == []


def test_projects_are_kept_apart(store: BulkStore) -> None:
    mine, other = (store.create_project(name)["id"] for name in ("mine", "other"))
    store.project_id = mine
    made = store.create_experiment("e")
    assert made["project_id"] == mine
    assert [row["id"] for row in store.list_experiments()] == [made["id"]]
    assert store.list_experiments(project_id=other) == []


def test_an_experiment_lives(store: BulkStore) -> None:
    made = store.create_experiment("e", hypothesis="h", tags=["a"], weight=0, note="", flag=False)
    assert [made[key] for key in ("weight", "note", "flag")] == [0, "", False]
    assert (made["name"], made["hypothesis"], made["tags"], made["is_valid"]) == ("e", "h", ["a"], True)
    store.update_experiment(made["id"], {"status": "completed", "best_score": 0.5})
    store.set_conclusion(made["id"], "Best arm: a.")
    found = store.get_experiment(made["id"])
    assert (found["status"], found["best_score"], found["conclusion"]) == ("completed", 0.5, "Best arm: a.")
    store.invalidate_experiment(made["id"], "wrong data")
    assert store.list_experiments(valid_only=True) == []
    assert len(store.list_experiments()) == 1
    assert store.experiment_summaries() == [
        {"id": made["id"], "name": "e", "hypothesis": "h", "conclusion": "Best arm: a.", "is_valid": False}
    ]
    store.delete_experiment(made["id"])
    assert store.get_experiment(made["id"]) is None


def test_groups_and_runs(store: BulkStore) -> None:
    experiment = store.create_experiment("e")["id"]
    group = store.create_group(experiment, "g", description="seeds")
    run = store.create_run(experiment, group_id=group["id"], seed=0, recipe_kind="sft", run_config={"lr": 1e-5})
    assert run["status"] == "pending"
    loose = store.create_run(experiment, status="running", name="arm")
    assert [row["id"] for row in store.list_groups(experiment)] == [group["id"]]
    assert [row["id"] for row in store.list_runs(experiment_id=experiment)] == [run["id"], loose["id"]]
    assert [row["id"] for row in store.list_runs(group_id=group["id"])] == [run["id"]]
    store.update_run(run["id"], {"status": "failed", "error_message": "ValueError: no", "summary": {"loss": 1.0}})
    found = store.get_run(run["id"])
    assert (found["status"], found["error_message"], found["summary"]) == ("failed", "ValueError: no", {"loss": 1.0})
    assert (found["seed"], found["run_config"]) == (0, {"lr": 1e-5})
    assert store.get_run(loose["id"])["name"] == "arm"


def test_curves(store: BulkStore) -> None:
    run = store.create_run(store.create_experiment("e")["id"])["id"]
    store.log_metrics(run, 1, {"loss": 2.0, "lr": 0.0})
    store.log_metric(run, 2, "loss", 1.5)
    store.log_metric(run, 2, "loss", 3.0, split="val")
    store.log_metrics(run, 2, {"loss": 1.25})  # logged again: the later value counts
    assert store.get_metrics(run, name="loss", split="train") == [
        {"step": 1, "name": "loss", "value": 2.0, "split": "train"},
        {"step": 2, "name": "loss", "value": 1.25, "split": "train"},
    ]
    assert {(row["name"], row["split"]) for row in store.get_metrics(run)} == {
        ("loss", "train"),
        ("lr", "train"),
        ("loss", "val"),
    }
    assert store.log_many(run, [MetricPoint(step, {"x": float(step)}, "test") for step in range(30)]) == [None] * 30
    assert [row["value"] for row in store.get_metrics(run, split="test")] == [float(step) for step in range(30)]


def test_checkpoints_evals_predictions(store: BulkStore) -> None:
    run = store.create_run(store.create_experiment("e")["id"])["id"]
    checkpoint = store.add_checkpoint(run, "/ckpt", label="final", step=3, base_model="demo", is_final=True)
    assert store.list_checkpoints(run)[0]["is_final"] is True
    row = store.create_eval(
        run,
        checkpoint_id=checkpoint["id"],
        model_ref="m",
        step=0,
        metrics={"mean_reward": 0.0},
        breakdowns={"k": {"v": {"n": 1}}},
        sdk_version="1",
    )
    (found,) = store.list_evals(run)
    assert (found["metrics"], found["breakdowns"], found["step"]) == ({"mean_reward": 0.0}, {"k": {"v": {"n": 1}}}, 0)
    store.add_prediction(
        run, "eval", eval_id=row["id"], task_id="t", instruction="i", model_output="o", expected="e", reward=0.0,
        sample_idx=2, metadata={"latency_s": 0.1},
    )  # fmt: skip
    store.add_prediction(run, "rollout", instruction=[{"role": "user"}], advantage=-1.0, step=4)
    (prediction,) = store.list_predictions(run, kind="eval")
    assert prediction["eval_id"] == row["id"]
    assert {prediction[key] for key in ("instruction", "model_output", "expected")} == {"i", "o", "e"}
    assert (prediction["reward"], prediction["sample_idx"], prediction["metadata"]) == (0.0, 2, {"latency_s": 0.1})
    assert len(store.list_predictions(run)) == 2
    many = [{"run_id": run, "kind": "eval", "eval_id": row["id"], "task_id": str(n)} for n in range(20)]
    assert store.add_predictions(many) == [None] * 20
    assert len(store.list_predictions(run, kind="eval")) == 21


@pytest.mark.parametrize("kind", ["dataset", "benchmark"])
def test_datasets_and_benchmarks(store: BulkStore, kind: str) -> None:
    def do(name: str, *args: object, **more: object) -> object:
        return getattr(store, name.format(kind))(*args, **more)

    made = do("create_{}", "d", "jsonl", metadata={"hash": "x"}, source_kind="file")
    do("add_{}_rows", made["id"], [{"a": 1}, {"a": 2}])
    do("add_{}_rows", made["id"], [{"a": 3}], start_idx=2)
    do("add_{}_rows", made["id"], [{"a": 3}], start_idx=2)
    found = do("get_{}", made["id"])
    assert (found["n_rows"], found["format"], found["version"]) == (3, "jsonl", 1)
    assert do("get_{}_rows", made["id"], limit=2, offset=1) == [
        {"idx": 1, "payload": {"a": 2}},
        {"idx": 2, "payload": {"a": 3}},
    ]
    (listed,) = do("list_{}s")
    assert (listed["name"], listed["version"], listed["id"], listed["metadata"]) == ("d", 1, made["id"], {"hash": "x"})
    other = "benchmark" if kind == "dataset" else "dataset"
    assert getattr(store, f"list_{other}s")() == []
    assert getattr(store, f"get_{other}")(made["id"]) is None


def test_experiment_detail(store: BulkStore) -> None:
    experiment = store.create_experiment("e")["id"]
    group = store.create_group(experiment, "g")["id"]
    run = store.create_run(experiment, group_id=group, run_config={"lr": 1})["id"]
    store.create_run(experiment)
    store.create_eval(run, metrics={"m": 1.0})
    store.add_checkpoint(run, "c")
    store.log_metric(run, 1, "loss", 1.0)
    detail = store.experiment_detail(experiment)
    first, loose = detail["groups"]
    assert detail["experiment"]["id"] == experiment
    assert (first["name"], loose["name"], len(loose["runs"])) == ("g", None, 1)
    (found,) = first["runs"]
    assert (found["run_config"], len(found["evals"]), len(found["checkpoints"])) == ({"lr": 1}, 1, 1)
    assert "metrics" not in found
    with_metrics = store.experiment_detail(experiment, include_metrics=True)
    assert with_metrics["groups"][0]["runs"][0]["metrics"] == [
        {"step": 1, "name": "loss", "value": 1.0, "split": "train"}
    ]


def test_what_is_not_there(store: BulkStore) -> None:
    assert store.get_experiment("nope") is None
    assert store.get_run("nope") is None
    assert store.get_dataset("nope") is None
    assert store.list_runs(experiment_id="nope") == []
    for call in (
        lambda: store.update_run("nope", {"status": "failed"}),
        lambda: store.update_experiment("nope", {}),
        lambda: store.experiment_detail("nope"),
        lambda: store.create_run("nope"),
        lambda: store.create_group("nope", "g"),
        lambda: store.log_metric("nope", 1, "loss", 1.0),
        lambda: store.add_checkpoint("nope", "c"),
        lambda: store.create_eval("nope", metrics={}),
        lambda: store.add_prediction("nope", "eval"),
        lambda: store.add_dataset_rows("nope", [1]),
        lambda: store.get_benchmark_rows("nope"),
    ):
        with pytest.raises(UnknownId):
            call()


def test_text_is_only_text(store: BulkStore) -> None:
    evil = "'); DROP TABLE runs; -- <script>alert(1)</script> ../../etc/passwd \x00 \U0001f600"
    made = store.create_experiment(evil, hypothesis=evil)
    run = store.create_run(made["id"], name=evil)
    store.log_metric(run["id"], 1, evil, 1.0)
    assert store.get_experiment(made["id"])["name"] == evil
    assert store.get_metrics(run["id"], name=evil)[0]["name"] == evil


def test_every_store_has_every_operation() -> None:
    for kind in (LocalStore, PostgresStore, GatewayStore, NoneStore):
        for name in NAMES:
            wanted = inspect.signature(getattr(EvsysStore, name)).parameters
            found = inspect.signature(getattr(kind, name)).parameters
            flexible = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in found.values())
            assert flexible or set(wanted) <= set(found), (kind, name)


def test_the_none_store_takes_everything() -> None:
    store = NoneStore()
    assert isinstance(store, EvsysStore)
    experiment = store.create_experiment("e")
    run = store.create_run(experiment["id"])
    assert store.create_group(experiment["id"], "g")["id"] != run["id"]
    store.log_metrics(run["id"], 1, {"loss": 1.0})
    assert store.update_run(run["id"], {"status": "completed"})["status"] == "completed"
    assert store.set_conclusion(experiment["id"], "c")["conclusion"] == "c"
    assert store.get_run(run["id"]) is None
    assert store.list_experiments() == store.get_metrics(run["id"]) == []
    assert store.experiment_detail(experiment["id"])["groups"] == []


def test_a_closed_gateway_says_which_and_why() -> None:
    store = GatewayStore("http://127.0.0.1:9", "k", budget_s=0.2)
    with pytest.raises(StoreError, match=r"list_experiments: http://127.0.0.1:9 cannot be reached"):
        store.list_experiments()
