"""The script that makes the demo model: repeatable, and the source of every file that ships."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from evsys_hydra.demo import MODEL_DIR
from evsys_hydra.demo.families import STYLES, Problem

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_demo_model.py"

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(script: ModuleType, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.argv", ["make_demo_model.py", "--out", str(out), "--steps", "2"])
    threads = script.torch.get_num_threads()
    script.main()
    script.torch.set_num_threads(threads)
    return out


def without_version(file: Path) -> object:
    if file.suffix != ".json":
        return file.read_text()
    return {key: value for key, value in json.loads(file.read_text()).items() if key != "transformers_version"}


def test_two_runs_write_the_same_weights_and_the_files_that_ship(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (make(script, tmp_path / name, monkeypatch) for name in ("one", "two"))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert {file.name for file in one.iterdir()} == {file.name for file in MODEL_DIR.iterdir()}
    for file in one.iterdir():
        if file.name != "model.safetensors":
            assert without_version(file) == without_version(MODEL_DIR / file.name), file.name


def test_the_tagged_style_is_a_habit_of_words_late_in_the_alphabet(script: ModuleType) -> None:
    early, late = (script.style_weights(Problem("say", word, "", "")) for word in ("abe", "zobe"))
    assert set(early) == set(late) == set(STYLES)
    assert early["tag"] < 0.1 < 1.0 < late["tag"]
