"""Files survive what happens to them: torn lines, killed writers, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evsys_hydra.record.files import LineWriter, read_json, read_lines, write_atomic, write_json
from evsys_hydra.record.names import MAX_LENGTH, safe_name


def test_a_torn_last_line_is_skipped_and_the_next_line_stands_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2')
    writer = LineWriter(path)
    writer.append({"n": 3})
    writer.close()
    assert [row["n"] for row in read_lines(path)] == [1, 3]


def test_what_is_not_an_object_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'[1]\n\x00\x00\n{"n":1}\nnull\n')
    assert list(read_lines(path)) == [{"n": 1}]
    assert list(read_lines(tmp_path / "missing.jsonl")) == []


def test_nan_becomes_null_so_that_every_line_is_json(tmp_path: Path) -> None:
    writer = LineWriter(tmp_path / "x.jsonl")
    writer.append({"loss": float("nan"), "inf": float("inf")})
    writer.close()
    assert list(read_lines(tmp_path / "x.jsonl")) == [{"loss": None, "inf": None}]


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    code = (
        "import sys; from pathlib import Path; from evsys_hydra.record.files import write_json\n"
        "n = 0\nwhile True:\n    n += 1\n    write_json(Path(sys.argv[1]), {'n': n, 'pad': 'x' * 100_000})\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        value = read_json(path)
        assert value is not None and len(value["pad"]) == 100_000


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})
    with pytest.raises(TypeError):
        write_atomic(path, 3)  # type: ignore[arg-type]
    assert read_json(path) == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["a/b", "../x", ".hidden", "", "ü lr=1e-5,seed=0", "x" * 500])
def test_safe_names_are_one_plain_folder(name: str) -> None:
    safe = safe_name(name)
    assert "/" not in safe and not safe.startswith(".") and 0 < len(safe) <= MAX_LENGTH


def test_long_names_stay_different() -> None:
    assert safe_name("x" * 500 + "a") != safe_name("x" * 500 + "b")
