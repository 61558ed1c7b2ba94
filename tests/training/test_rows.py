"""Every source of rows, and what is said about rows that cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.config import DataConfig, KindConfig
from evsys_hydra.errors import DataError
from evsys_hydra.registry import register_dataset, register_transform
from evsys_hydra.training.context import Row
from evsys_hydra.training.rows import check_data, load_rows, rows_hash

ROWS = [{"prompt": "2+2=", "completion": "4"}, {"prompt": 'a, "b"\n', "completion": "ż"}]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def data(**settings: Any) -> DataConfig:
    return DataConfig.model_validate(settings)


def error_of(config: DataConfig) -> str:
    with pytest.raises(DataError) as caught:
        load_rows(config)
    return str(caught.value)


def test_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert load_rows(data(path=path)) == ROWS


def test_json_list(tmp_path: Path) -> None:
    assert load_rows(data(path=write(tmp_path / "a.json", json.dumps(ROWS)))) == ROWS


def test_csv_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeffprompt,completion\n2+2=,4\n"a, ""b""\n",ż\n', encoding="utf-8")
    assert load_rows(data(path=str(path))) == ROWS


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow.lib import Table

    parquet.write_table(Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert load_rows(data(path=str(tmp_path / "a.parquet"))) == ROWS


def test_a_glob_reads_files_in_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", '{"text": "2"}')
    write(tmp_path / "a.json", '[{"text": "1"}]')
    assert [row["text"] for row in load_rows(data(path=str(tmp_path / "*")))] == ["1", "2"]


def test_rows_in_the_config() -> None:
    assert load_rows(data(rows=ROWS)) == ROWS


def test_rows_made_by_the_users_code() -> None:
    class Count(KindConfig):
        n: int = 2

    register_dataset("test_count", config=Count)(lambda config: [{"text": str(i)} for i in range(config.n)])
    assert load_rows(data(generate={"kind": "test_count", "n": 3})) == [{"text": "0"}, {"text": "1"}, {"text": "2"}]


def test_hub_without_the_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "datasets.load", None)
    text = error_of(data(hub={"name": "org/rows"}))
    assert "org/rows" in text and "pip install datasets" in text


def test_template_makes_prompt_and_completion() -> None:
    row = {"question": "2+2?", "answer": {"value": 4}, "list": [1], "text": "old"}
    template = {"prompt": 'Q: {question} {"json": 1}', "completion": "{answer.value} {list}"}
    assert load_rows(data(rows=[row], template=template)) == [
        {
            "question": "2+2?",
            "answer": {"value": 4},
            "list": [1],
            "prompt": 'Q: 2+2? {"json": 1}',
            "completion": "4 [1]",
        }
    ]


def test_template_with_a_system_message_makes_a_chat() -> None:
    template = {"prompt": "{q}", "completion": "{a}", "system": "Be {mood}."}
    (row,) = load_rows(data(rows=[{"q": "hi", "a": "ho", "mood": "brief"}], template=template))
    assert [(message["role"], message["content"]) for message in row["messages"]] == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "ho"),
    ]


def test_limit_comes_after_the_transforms() -> None:
    rows = [{"text": "a"}, {"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert [row["text"] for row in load_rows(data(rows=rows, transforms=["dedupe"], limit=2))] == ["a", "b"]


def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "1"}\n' * 6 + '{"text": \n{"text": "8"}\n')
    assert error_of(data(path=path)).startswith(f"{path}:7: not JSON")


def test_all_bad_rows_are_listed_up_to_ten(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "1"}\n' + "nonsense\n" * 13)
    text = error_of(data(path=path))
    assert text.startswith("13 bad rows:")
    assert [f"{path}:{number}:" in text for number in (1, 2, 11, 12)] == [False, True, True, False]
    assert "and 3 more" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "a"}, "accepted: {messages:"),
        ({"prompt": "a", "completion": 4}, "completion: must be a string, not int 4"),
        ({"prompt": "a", "completion": ""}, "completion: is empty"),
        ({"text": None}, "text: must be a string, not NoneType None"),
        ({"messages": "hi"}, "messages: must be a list"),
        ({"messages": ["hi"]}, "messages[0]: must be an object"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role: must be one of system,"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content: must be a string"),
        ({"messages": [{"role": "user", "content": "a"}]}, "has no assistant message"),
    ],
)
def test_a_row_of_no_known_shape_is_explained(tmp_path: Path, row: Row, said: str) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "good"}\n' + json.dumps(row))
    text = error_of(data(path=path))
    assert text.startswith(f"{path}:2: ") and said in text


def test_a_template_field_that_is_missing_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "question,answer\nx,y\n")
    text = error_of(data(path=path, template={"prompt": "{quest}", "completion": "{answer}"}))
    assert text.startswith(f"{path}:2: ") and "{quest}" in text and "question, answer" in text


def test_csv_rows_of_another_width_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "prompt,completion\na,b,c\nd\ne,f\n")
    text = error_of(data(path=path))
    assert f"{path}:2: does not have the 2 columns" in text and f"{path}:3: " in text and ":4:" not in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{}", "must hold a JSON list"),
        ("a.json", "[", "not JSON"),
        ("a.parquet", "x", "not a parquet file"),
        ("a.txt", "x", "known: .jsonl, .json, .csv, .parquet"),
        ("a.jsonl", "", "no rows are left"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, said: str) -> None:
    assert said in error_of(data(path=write(tmp_path / name, content)))


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    assert "no such file" in error_of(data(path=str(tmp_path / "none.jsonl")))
    assert "give a glob" in error_of(data(path=str(tmp_path)))


def test_a_transform_that_raises_is_named() -> None:
    def broken(rows: list[Row], config: KindConfig) -> list[Row]:
        raise KeyError("colour")

    register_transform("test_broken")(broken)
    assert "data.transforms[0] (test_broken): KeyError: 'colour'" in error_of(
        data(rows=[{"text": "a"}], transforms=["test_broken"])
    )


def test_a_bad_row_after_a_transform_keeps_its_place_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "a"}\n{"txt": "b"}\n')
    assert error_of(data(path=path, transforms=["dedupe"])).startswith(f"{path}:3: ")


def test_check_finds_before_launch_what_loading_would_find(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", '{"question": "a", "answer": "b"}\n')
    bad = write(tmp_path / "bad.jsonl", '{"text": "a"}\n' * 6 + "{\n")
    rename = {"kind": "rename", "fields": {"question": "prompt", "answer": "completion"}}
    assert check_data(data(path=good, transforms=[rename])) == []
    assert "fields question, answer" in check_data(data(path=good))[0]
    assert f"{bad}:7" in check_data(data(path=bad))[0]
    assert "no such file" in check_data(data(path="none.jsonl"))[0]
    assert "no rows" in check_data(data(path=write(tmp_path / "empty.jsonl", "\n")))[0]
    assert "has no field 'x'" in check_data(data(path=good, transforms=[{"kind": "rename", "fields": {"x": "y"}}]))[0]


def test_equal_rows_have_equal_hashes_and_order_matters(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    assert rows_hash(load_rows(data(path=path))) == rows_hash(ROWS)
    assert rows_hash(ROWS) != rows_hash(ROWS[::-1])


def test_the_driver_checks_data_and_algorithms_without_torch() -> None:
    code = (
        "import sys\n"
        "from evsys_hydra import registry, models\n"
        "from evsys_hydra.config import DataConfig, typed\n"
        "from evsys_hydra.training.rows import check_data\n"
        "assert check_data(DataConfig(rows=[{'text': 'a'}], transforms=['shuffle'])) == []\n"
        "typed(registry.algorithms, {'kind': 'sft', 'lr': 1e-4}); typed(registry.algorithms, 'none')\n"
        "heavy = {'torch', 'transformers', 'peft', 'pyarrow', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
