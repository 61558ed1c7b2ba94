"""What a person sees while a sweep runs: a table on a terminal, lines elsewhere, and no harm to the sweep."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evsys_hydra.record import ArmRecord, ArmView
from evsys_hydra.record.files import read_json
from evsys_hydra.sweep.live import LiveTable
from evsys_hydra.sweep.screen import Row, Screen, summary, window
from evsys_hydra.sweep.show import Watch
from tests.conftest import command_line
from tests.store import making

SIZE = {"COLUMNS": "120", "LINES": "30", "TERM": "xterm-256color"}


class Terminal:
    """A sweep in a terminal of its own, as its controlling one."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.handle, inside = pty.openpty()
        self.text = ""
        environment = {**os.environ, **SIZE}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words], cwd=cwd, env=environment, stdin=inside, stdout=inside, stderr=inside
        )
        os.close(inside)

    def read(self, until: Callable[[str], bool], seconds: float = 90) -> str:
        """What it shows, until it shows what is wanted or closes."""
        deadline = time.monotonic() + seconds
        while not until(self.text):
            assert time.monotonic() < deadline, self.text[-3000:]
            if not select.select([self.handle], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(self.handle, 65536)
            except OSError:  # the other side is closed
                return self.text
            self.text += data.decode(errors="replace")
        return self.text

    def end(self) -> int:
        self.read(lambda text: False)
        return self.process.wait(30)


@pytest.fixture
def sweep_words(tmp_path: Path, noop_words: list[str]) -> list[str]:
    return command_line(*noop_words, f"hydra.sweep.dir={tmp_path / 'exp'}", "algorithm.seconds=3")


@pytest.mark.slow
def test_a_terminal_gets_a_table_and_the_ranking(tmp_path: Path, sweep_words: list[str]) -> None:
    terminal = Terminal([*sweep_words, "algorithm.skill=0.2,0.9", "algorithm.do=complete"], tmp_path)
    terminal.read(lambda text: "running" in text)
    assert terminal.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.text)
    assert "3 arms: 3 completed" in plain
    assert re.search(r"skill=0\.9 +completed +\d+:\d\d +pass_rate=0\.\d{4}", plain)
    assert "95% interval" in plain[plain.rindex("3 arms: 3 completed") :]
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l"), "the cursor is hidden"
    assert terminal.text.count("\x1b[?25l") == 1, "the table was begun again"


@pytest.mark.slow
def test_a_failure_stays_on_the_screen(tmp_path: Path, sweep_words: list[str]) -> None:
    terminal = Terminal([*sweep_words, "algorithm.do=raise,complete"], tmp_path)
    assert terminal.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.text)
    assert "do=raise  failed: user_error: ValueError: this recipe does not work" in plain


@pytest.mark.slow
def test_ctrl_c_cancels_concludes_and_leaves_the_cursor(tmp_path: Path, sweep_words: list[str]) -> None:
    terminal = Terminal([*sweep_words, "algorithm.do=loop,complete"], tmp_path)
    terminal.read(lambda text: "running" in text and "do=loop" in text)
    time.sleep(3)
    os.write(terminal.handle, b"\x03")
    assert terminal.end() == 1
    assert "SIGINT: ending the running arms, then concluding" in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert {arm["cause"] for arm in read_json(tmp_path / "exp" / "conclusion.json")["arms"].values()} == {"cancelled"}


@pytest.mark.slow
def test_a_terminal_that_is_closed_does_not_end_the_sweep(tmp_path: Path, sweep_words: list[str]) -> None:
    terminal = Terminal([*sweep_words, "algorithm.skill=0.2,0.9"], tmp_path)
    terminal.read(lambda text: "running" in text)
    os.close(terminal.handle)
    deadline = time.monotonic() + 60
    while not (tmp_path / "exp" / "conclusion.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    terminal.process.wait(30)
    assert read_json(tmp_path / "exp" / "conclusion.json")["status"] == "completed"


def test_elsewhere_there_are_lines(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    out = io.StringIO()
    making.add_arm(record, "a")
    making.add_arm(record, "b")
    with LiveTable(tmp_path / "exp", out=out):
        making.run_arm(record.arm_directory("a"))
        making.run_arm(record.arm_directory("b"), fail="ValueError: no")
    lines = [line for line in out.getvalue().splitlines() if "running" not in line]
    assert re.fullmatch(r"\[1/2\] a  completed  mean_reward=0\.7500  \(\d\.\d s\)", lines[0])
    assert lines[1:] == ["[2/2] b  failed: user_error: ValueError: no"]


def test_a_row_follows_its_arm(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = ArmRecord(making.add_arm(record, "a"))
    arm.start()
    row = Row(arm.directory)
    row.update(ArmView(arm.directory), "")
    assert (row.state, row.total, row.left_s) == ("running", 0, None)
    arm.event("progress", phase="train", done=10, total=100)
    arm.metrics(10, {"loss": 0.5, "tokens_per_s": 123.0})
    row.update(ArmView(arm.directory), "")
    time.sleep(0.1)
    arm.progress("train", 20, 100, loss=0.25)
    row.update(ArmView(arm.directory), "")
    assert (row.phase, row.done, row.total, row.tokens_per_s, row.metric) == ("train", 20, 100, 123.0, ("loss", 0.25))
    assert row.left_s is not None
    assert 0.4 < row.left_s < 3
    arm.progress("eval bench", 1, 3)
    row.update(ArmView(arm.directory), "")
    assert (row.phase, row.done, row.left_s) == ("eval bench", 1, None)


def test_of_many_arms_those_that_matter_are_shown() -> None:
    states = ["completed"] * 40 + ["failed"] * 5 + ["running"] * 4 + ["pending"] * 951
    rows = [Row(Path(f"arm{place}"), state, changed=place) for place, state in enumerate(states)]  # type: ignore[arg-type]
    shown = window(rows, 20)
    assert len(shown) == 20
    assert [row.state for row in shown].count("running") == 4
    assert [row.state for row in shown].count("failed") == 5
    assert "arm39" in {row.directory.name for row in shown}, "the last that completed"
    assert "arm49" in {row.directory.name for row in shown}, "the next to come"
    assert shown == sorted(shown, key=rows.index)
    assert len(window(rows, 3)) == 3
    assert {row.state for row in window(rows, 3)} == {"running"}
    assert len(window(rows[:30], 20)) == 20
    assert summary(rows) == "1000 arms: 40 completed, 5 failed, 4 running, 951 pending"


@pytest.mark.slow
def test_looking_at_a_thousand_arms_is_cheap(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    names = [f"arm{number}" for number in range(1000)]
    for name in names:
        record.arm_directory(name).mkdir(parents=True)
    record.add_arms(names)
    running = [ArmRecord(record.arm_directory(name)) for name in names[:20]]
    for arm in running:
        arm.start()
        arm.progress("train", 1, 2)
    inside, outside = pty.openpty()
    with os.fdopen(outside, "w") as out:
        watch = Watch([record.arm_directory(name) for name in names], None, out)
        watch.look()
        started = time.thread_time()
        for _ in range(3):
            watch.look()
        spent = (time.thread_time() - started) / 3
        watch.close()
    os.close(inside)
    assert spent < 0.25, f"{spent:.3f} s"


def test_how_an_earlier_attempt_ended_is_not_told_again(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    making.add_arm(record, "a")
    arm = ArmRecord(record.arm_directory("a"))
    arm.start()
    arm.fail("user_error", "ValueError: the first time", "")
    out = io.StringIO()
    with LiveTable(tmp_path / "exp", out=out):
        again = ArmRecord(record.arm_directory("a"))
        again.start()
        again.fail("user_error", "ValueError: the second time", "")
    assert "the first time" not in out.getvalue() and "the second time" in out.getvalue()


def test_a_terminal_that_is_gone_raises_nothing(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    making.add_arm(record, "a")
    inside, outside = pty.openpty()
    out = os.fdopen(outside, "w")
    assert out.isatty()
    with LiveTable(tmp_path / "exp", out=out):
        making.run_arm(record.arm_directory("a"))
        os.close(inside)
        time.sleep(1.2)
    screen = Screen([], out)
    screen.close()
