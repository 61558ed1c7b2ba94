"""The exported tables: what pandas reads is what the records hold, in every format."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.errors import ConfigError, RecordError
from evsys_hydra.export import export
from evsys_hydra.record.files import to_json
from evsys_hydra.sweep.conclude import conclude
from tests.store import making

pd = pytest.importorskip("pandas")


def read(folder: Path, table: str, format: str) -> Any:
    if format == "parquet":
        return pd.read_parquet(folder / f"{table}.parquet")
    if format == "json":
        return pd.read_json(folder / f"{table}.jsonl", lines=True, precise_float=True)
    return pd.read_csv(folder / f"{table}.csv")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    making.sweep(tmp_path / "exp")
    conclude(tmp_path / "exp")
    return tmp_path / "exp"


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_every_format_holds_the_same(tmp_path: Path, finished: Path, format: str) -> None:
    files = export(finished, format, tmp_path / "out")
    assert {file.table: file.rows for file in files} == {
        "arms": 3, "evals": 6, "breakdowns": 6, "predictions": 9, "rollouts": 0, "metrics": 30, "ranking": 1,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(Path(file.path).name for file in files)
    arms = read(tmp_path / "out", "arms", format).set_index("arm")
    assert list(arms.state) == ["completed", "completed", "failed"]
    assert (arms.cause["b"], arms.error["b"]) == ("user_error", "ValueError: it broke")
    assert arms["swept.lr"]["a-s0"] == 1e-5
    assert (arms.score["a-s0"], arms["bench.mean_reward"]["a-s0"], arms["train.loss"]["a-s0"]) == (0.75, 0.75, 0.2)
    assert arms.group_ci_low["a-s0"] <= arms.group_estimate["a-s0"] <= arms.group_ci_high["a-s0"]
    predictions = read(tmp_path / "out", "predictions", format)
    errored = predictions[predictions.reward.isna()]
    assert list(errored.error) == ["Timeout: no answer"] * 3
    assert set(predictions[predictions.arm == "a-s1"].output) == {"it is 0", "it is 1", "it is 2"}
    curves = read(tmp_path / "out", "metrics", format)
    loss = curves[(curves.arm == "b") & (curves.metric == "loss")]
    assert list(loss.step) == [1, 2, 3, 4, 5]
    assert list(loss.value) == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    levels = read(tmp_path / "out", "breakdowns", format)
    assert set(zip(levels.key, levels.level, levels.metric, levels.value, strict=True)) == {
        ("level", "easy", "n", 3.0), ("level", "easy", "mean_reward", 0.75),
    }  # fmt: skip


def test_odd_values_are_kept(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = making.ArmRecord(making.add_arm(record, "a"))
    arm.start()
    odd = {**making.prediction(0), "instruction": [{"role": "user", "content": 'a "b",\n\u2028\U0001f600'}]}
    odd.update(output="line\none, two\r\x00", expected={"x": 1}, reward=float("nan"))
    arm.prediction("bench", odd)
    arm.prediction("bench", making.prediction(1))
    arm.prediction("bench", making.prediction(1, reward=0.0))  # scored again: the last counts
    arm.prediction("cut-off", making.prediction(0))
    for step in (1, 2, 2):
        arm.metrics(step, {"loss": float("inf") if step == 1 else 0.5})
    making.evaluate(arm)
    arm.complete({"status": "completed", "metrics": {}})
    for format in ("csv", "json", "parquet"):
        export(tmp_path / "exp", format, tmp_path / format)
        rows = read(tmp_path / format, "predictions", format)
        assert list(rows.benchmark) == ["bench", "bench", "cut-off"]
        first = rows.iloc[0]
        assert json.loads(first.instruction)[0]["content"] == 'a "b",\n\u2028\U0001f600'
        assert json.loads(first.expected) == {"x": 1}
        assert pd.isna(first.reward)
        assert rows.iloc[1].reward == 0.0
        curves = read(tmp_path / format, "metrics", format)
        assert (list(curves.step), pd.isna(curves.value[0]), curves.value[1]) == ([1, 2], True, 0.5)
    assert read(tmp_path / "parquet", "predictions", "parquet").output[0] == "line\none, two\r\x00"


def test_a_carriage_return_breaks_no_row(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = making.ArmRecord(making.add_arm(record, "a"))
    arm.start()
    for task in range(3):
        arm.prediction("bench", {**making.prediction(task), "output": "one\rtwo"})
    making.evaluate(arm)
    arm.complete({"status": "completed", "metrics": {}})
    export(tmp_path / "exp", "csv")
    with (tmp_path / "exp" / "export" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["output"] for row in rows] == ["one\rtwo"] * 3


def test_rollouts_have_a_table_of_their_own(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = making.ArmRecord(making.add_arm(record, "a"))
    arm.start()
    for step in (1, 2):
        arm.prediction("rollouts", {**making.prediction(0), "kind": "rollout", "step": step, "advantage": -0.5})
    arm.prediction("bench", making.prediction(0))
    making.evaluate(arm)
    arm.complete({"status": "completed", "metrics": {}})
    export(tmp_path / "exp", "csv")
    rollouts = read(tmp_path / "exp" / "export", "rollouts", "csv")
    assert list(rollouts.step) == [1, 2] and list(rollouts.advantage) == [-0.5, -0.5]
    assert set(read(tmp_path / "exp" / "export", "predictions", "csv").benchmark) == {"bench"}


def test_swept_columns_of_several_types(tmp_path: Path) -> None:
    from evsys_hydra.record.files import write_json

    record = making.experiment(tmp_path / "exp")
    for name, swept in (
        ("a", {"lr": 1, "model": "x"}),
        ("b", {"lr": 0.5, "flag": True, "id": 2**63}),
        ("c", {"model": 3}),
    ):
        directory = making.add_arm(record, name)
        write_json(directory / "arm.json", {"name": name, "group": name, "seed": 0, "role": "arm", "swept": swept})
    export(tmp_path / "exp", "parquet")
    arms = pd.read_parquet(tmp_path / "exp" / "export" / "arms.parquet")
    assert list(arms["swept.lr"].dropna()) == [1.0, 0.5]
    assert list(arms["swept.model"].dropna()) == ["x", "3"]
    assert list(arms["swept.id"].dropna()) == [str(2**63)]
    assert list(arms["swept.flag"].dropna()) == [True]
    assert set(arms.state) == {"pending"}


def test_what_cannot_be_exported_is_said(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"'xlsx' is none of csv, json, parquet"):
        export(finished, "xlsx")
    with pytest.raises(RecordError, match="not an experiment"):
        export(tmp_path, "csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        export(finished, "csv", tmp_path / "file" / "x")
    code = (
        "import importlib.util as u, sys; from pathlib import Path\n"
        "find = u.find_spec; u.find_spec = lambda name, *a: None if name == 'pyarrow' else find(name, *a)\n"
        "from evsys_hydra.export import export; export(Path(sys.argv[1]), 'parquet')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=False)
    assert "needs pyarrow: pip install 'evsys_hydra[data]'" in done.stderr


def test_a_failed_export_leaves_the_earlier_file(tmp_path: Path, finished: Path) -> None:
    export(finished, "csv", tmp_path / "out")
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    lines = (finished / "arms" / "b" / "predictions" / "bench.jsonl").read_bytes()
    broken = lines.splitlines()[0].replace(b'"prompt_tokens":3', b'"prompt_tokens":9e99')
    (finished / "arms" / "b" / "predictions" / "bench.jsonl").write_bytes(lines + broken.replace(b"task-0", b"z"))
    with pytest.raises(OverflowError):
        export(finished, "parquet", tmp_path / "out")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    assert not (tmp_path / "out" / "predictions.parquet").exists()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_large_table_is_not_held_in_memory(tmp_path: Path, format: str) -> None:
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a")
    (directory / "predictions").mkdir()
    text = "x" * 2000
    with (directory / "predictions" / "bench.jsonl").open("wb") as file:
        for number in range(20_000):
            file.write(to_json({**making.prediction(number), "output": text}) + b"\n")
    tracemalloc.start()
    files = export(tmp_path / "exp", format)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {file.table: file.rows for file in files}["predictions"] == 20_000
    assert peak < 30e6, f"{peak / 1e6:.0f} MB, of 40 MB of text"


def test_the_verb(finished: Path) -> None:
    words = ["evsys-hydra", "export", str(finished), "--format", "json", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    files = {file["table"]: file for file in json.loads(done.stdout)["files"]}
    assert files["metrics"]["rows"] == 30
    assert Path(files["arms"]["path"]) == finished / "export" / "arms.jsonl"
