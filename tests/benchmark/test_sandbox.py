"""The sandbox against programs that mean harm: each is really run, and each costs one prediction at most."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.benchmark import sandbox
from evsys_hydra.benchmark.sandbox import Limits, Ran, run
from evsys_hydra.benchmark.sandbox_syscalls import filter_for
from evsys_hydra.benchmark.tasks import Benchmark, check_benchmark
from evsys_hydra.config import BenchmarkConfig
from evsys_hydra.errors import ConfigError

pytestmark = pytest.mark.slow

LIMITS = Limits(seconds=3, memory_mb=256, processes=16, disk_mb=8, output_kb=16)
SECRET = "sk-planted-7f3a"


@pytest.fixture(autouse=True)
def bubblewrap() -> None:
    problem = sandbox.problem(LIMITS)
    if problem is not None and os.environ.get("CI"):
        pytest.fail(f"the sandbox's tests cannot run: {problem}")
    if problem is not None:
        pytest.skip(problem)


def ran(program: str, **changed: int) -> Ran:
    return run(program, limits=LIMITS._replace(**changed))


def processes(mark: str) -> list[str]:
    """Command lines of this machine's processes that hold the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line and str(os.getpid()) != path.parent.name:
            found.append(line)
    return found


def test_a_harmless_program_passes_and_its_output_comes_back() -> None:
    done = run("print(open('/tests/data.txt').read(), flush=True)", {"data.txt": "hello"}, LIMITS)
    assert done == Ran(True, "hello\n", None)
    assert not ran("raise SystemExit(3)").passed
    assert "ZeroDivisionError" in ran("1 / 0").output


def test_nothing_is_run_where_it_is_not_allowed() -> None:
    with pytest.raises(ConfigError, match=r"benchmark\.sandbox=bubblewrap"):
        run("print(1)")


def test_no_network_not_even_of_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = ran(f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)")
        assert not done.passed and "Error" in done.output
        done = ran("import socket; socket.create_connection(('1.1.1.1', 53), 1)")
        assert not done.passed and "unreachable" in done.output


def test_no_abstract_socket_of_this_machine() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0evsys-test-sandbox")
        server.listen()
        done = ran("import socket; socket.socket(socket.AF_UNIX).connect('\\0evsys-test-sandbox')")
        assert not done.passed and "ConnectionRefusedError" in done.output


def test_no_vsock_and_no_new_namespaces() -> None:
    assert "not supported" in ran("import socket; socket.socket(socket.AF_VSOCK)").output
    program = "import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.unshare({}), ctypes.get_errno())"
    for flag in (0x10000000, 0x00020000):  # a user, a mount namespace
        assert ran(program.format(flag)).output.split() == ["-1", "1"]


def test_no_key_of_the_environment_and_no_file_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    (tmp_path / "key").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    done = ran(
        "import os, pathlib\n"
        "print(dict(os.environ))\n"
        "for pid in os.listdir('/proc'):\n"
        "    if pid.isdigit(): print(open(f'/proc/{pid}/environ', 'rb').read(), open(f'/proc/{pid}/cmdline').read())\n"
    )
    assert SECRET not in done.output and "HOME" in done.output
    home = Path.home()
    for place in (tmp_path / "key", home / ".ssh", home / ".bashrc", Path("/etc/passwd"), Path("/etc/shadow")):
        done = ran(f"import os; os.stat({str(place)!r})")
        assert not done.passed and "FileNotFoundError" in done.output, place


def test_no_descriptor_of_mine(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    descriptor = os.open(tmp_path / "key", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        done = ran(
            "import os\n"
            "for number in range(256):\n"
            "    try: print(number, os.read(number, 99))\n"
            "    except OSError: pass\n"
        )
    finally:
        os.close(descriptor)
    assert SECRET not in done.output


@pytest.mark.parametrize("place", ["/", "/usr/bin/mine", "/tests/mine", "/proc/self/mine", sys.prefix + "/lib/mine"])
def test_nothing_is_written_outside_tmp(place: str) -> None:
    done = ran(f"open({place!r}, 'w').write('x')")
    assert not done.passed and "Error" in done.output
    assert not Path(place).is_file()


def test_what_it_writes_in_tmp_is_gone() -> None:
    assert ran("open('/tmp/mine', 'w').write('x'); open('/dev/shm/mine', 'w').write('x')").passed
    assert not ran("import os; os.stat('/tmp/mine')").passed
    assert not Path("/tmp/mine").exists()


def test_a_fork_bomb_ends_in_itself() -> None:
    done = ran("import os\nwhile True:\n    os.fork()")
    assert not done.passed
    mark = f"evsys-bomb-{os.getpid()}"
    done = ran(
        "import subprocess, sys, time\n"
        "while True:\n"
        f"    try: subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])\n"
        "    except OSError: time.sleep(0.01)\n",
        seconds=2,
    )
    assert done.stopped == "it took longer than 2 s"
    time.sleep(0.2)
    assert processes(mark) == []


def test_memory_is_bounded_for_one_process_and_for_all_together() -> None:
    assert "MemoryError" in ran("x = bytearray(1 << 30)").output
    done = ran(
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        kept = bytearray(b'x') * (60 << 20)\n"
        "        time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    assert done.stopped == "it used more than 256 MB of memory"


def test_disk_is_bounded() -> None:
    done = ran("file = open('/tmp/big', 'wb')\nwhile True:\n    file.write(b'x' * 100_000)")
    assert not done.passed and done.stopped is None
    done = ran(
        "import os\n"
        "for number in range(100):\n"
        "    with open(f'/tmp/{number}', 'wb') as file: file.write(b'x' * 1_000_000)\n"
    )
    assert "No space left" in done.output
    done = ran("for number in range(10**6): open(f'/tmp/{number}', 'w').close()")
    assert done.stopped == "it made more than 20000 files" or "No space left" in done.output


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: time.sleep(1)",
        "import os\nos.kill(1, 9)\nos.kill(1, 19)\nwhile True: pass",
    ],
)
def test_an_endless_program_is_ended(program: str) -> None:
    started = time.monotonic()
    done = ran(program, seconds=1)
    assert done.stopped == "it took longer than 1 s" and not done.passed
    assert time.monotonic() - started < 4


def test_a_daemon_does_not_live_on() -> None:
    mark = f"evsys-daemon-{os.getpid()}"
    done = ran(
        "import os, subprocess, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])\n"
        "    os._exit(0)\n"
    )
    assert done.passed
    time.sleep(0.2)
    assert processes(mark) == []


def test_others_are_not_seen_and_cannot_be_signalled() -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        done = ran(
            f"import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))\nos.kill({other.pid}, 9)\n"
        )
        assert other.poll() is None
        other.kill()
    assert "ProcessLookupError" in done.output and str(os.getpid()) not in done.output.splitlines()[0]


def test_a_flood_of_output_is_cut() -> None:
    done = ran("import os\nwhile True: os.write(1, b'x' * 65536)")
    assert done.stopped == "it printed more than 16 kB" and len(done.output) <= 16 * 1024


def test_its_death_is_that_of_whoever_asked() -> None:
    """The verifier process is killed while a program runs: nothing is left of the sandbox."""
    mark = f"evsys-orphan-{os.getpid()}"
    program = (
        f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])"
    )
    code = f"from evsys_hydra.benchmark.sandbox import Limits, run\nrun({program!r}, limits=Limits(seconds=30))"
    with subprocess.Popen([sys.executable, "-c", code]) as asking:
        deadline = time.monotonic() + 20
        while not processes(f"time.sleep(60) {mark}") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes(f"time.sleep(60) {mark}")
        asking.kill()
    deadline = time.monotonic() + 10
    while processes(f"time.sleep(60) {mark}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(f"time.sleep(60) {mark}") == []


@pytest.mark.parametrize("limit", ["RLIMIT_CPU, (0, 0)", "RLIMIT_AS, (4096, 4096)", "RLIMIT_NOFILE, (3, 3)"])
def test_who_breaks_the_sandbox_has_failed_and_is_no_error(limit: str) -> None:
    """An errored prediction would stay out of the mean, so that breaking it would pay."""
    done = ran(f"import resource, time\nresource.prlimit(1, resource.{limit})\ntime.sleep(5)", seconds=2)
    assert not done.passed and done.stopped in ("it broke its sandbox", "it took longer than 2 s")


@pytest.mark.parametrize(("line", "reward"), [("reward: 0.5", 0.5), ("reward: 5", 1.0), ("reward: 1.2.3", 1.0)])
def test_a_reward_that_is_none_leaves_it_to_the_exit_status(line: str, reward: float) -> None:
    verifier = {**E2B, "test_sh": "python3 /tests/answer.py"}
    score = tasks({"a": verifier}).score(Says({"a": f"print({line!r})"}), sandbox="bubblewrap")
    assert [(row["reward"], row["error"]) for row in score.predictions] == [(reward, None)]


def test_an_answer_that_fails_its_tests_cannot_reward_itself() -> None:
    answer = "import atexit\natexit.register(lambda: print('reward: 1'))\nraise SystemExit(1)"
    verifier = {**E2B, "test_sh": "python3 /tests/answer.py"}
    score = tasks({"a": verifier}).score(Says({"a": answer}), sandbox="bubblewrap")
    assert [row["reward"] for row in score.predictions] == [0.0]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_is_made_of_whole_instructions(machine: str) -> None:
    assert len(filter_for(machine)) % 8 == 0
    with pytest.raises(KeyError):
        filter_for("vax")


# -- as verifiers of a benchmark --------------------------------------------------------------------------------------

ADD = {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"], "entry_point": "add"}
E2B = {
    "kind": "e2b",
    "dockerfile": "FROM python\n",
    "test_sh": "python /tests/test_state.py",
    "test_state_py": "assert 'paris' in open('/tests/answer.txt').read().lower()",
}


class Says:
    """A client that gives each task its own text."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
        return self.texts[prompt]


def tasks(verifiers: dict[str, Any]) -> Benchmark:
    rows = [{"task_id": name, "instruction": name, "verifier": verifier} for name, verifier in verifiers.items()]
    return Benchmark.from_iterable("code", rows)


def python_tests(**params: Any) -> dict[str, Any]:
    return {"kind": "in_process", "fn_name": "python_tests", "params": params}


def test_answers_are_tested_and_attacks_cost_one_prediction_each() -> None:
    right = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    texts = {
        "right": right,
        "bare": "def add(a, b): return a + b",
        "half": "def add(a, b): return 3",
        "partial": "def add(a, b): return 3",
        "wrong": "def add(a, b): return a - b",
        "no code": "I cannot.",
        "exits": "import os; os._exit(0)",
        "loops": "while True: pass",
        "forks": "import os\nwhile True: os.fork()",
        "eats": "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "paris": "It is Paris.",
        "rome": "It is Rome.",
    }
    verifiers = {name: python_tests(**ADD) for name in texts if name not in ("partial", "paris", "rome")}
    verifiers |= {"partial": python_tests(**ADD, partial=True), "paris": E2B, "rome": E2B}
    entry_limits = {"seconds": 2, "memory_mb": 256, "processes": 16}
    score = tasks(verifiers).score(
        Says(texts),
        sandbox="bubblewrap",
        sandbox_limits=BenchmarkConfig.model_validate({"path": "x", "sandbox_limits": entry_limits}).sandbox_limits,
    )
    rewards = {row["task_id"]: row["reward"] for row in score.predictions}
    passed = {"right": 1.0, "bare": 1.0, "partial": 0.5, "paris": 1.0}
    assert rewards == {name: passed.get(name, 0.0) for name in texts}
    assert score.error is None and score.metrics["n_errors"] == 0
    facts = {row["task_id"]: row["metadata"] for row in score.predictions}
    assert facts["loops"]["sandbox_stopped"] == "it took longer than 2 s"
    assert "AssertionError" in facts["wrong"]["sandbox_output"]


def test_code_is_refused_before_anything_runs_unless_it_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"task a: .*off; allow it in a sandbox with benchmark\.sandbox=bubblewrap"):
        tasks({"a": python_tests(**ADD)}).score(Says({"a": "x"}))
    with pytest.raises(ConfigError, match="task b: "):
        tasks({"b": E2B}).score(Says({"b": "x"}))


def write(folder: Path, verifier: dict[str, Any]) -> BenchmarkConfig:
    import json

    folder.mkdir()
    row = {"task_id": "a", "instruction": "a", "verifier": verifier}
    (folder / "tasks.jsonl").write_text(json.dumps(row) + "\n")
    return BenchmarkConfig.model_validate({"path": str(folder), "sandbox": "bubblewrap"})


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (python_tests(tests="assert ("), "verifier.params.tests: not Python"),
        (python_tests(test="assert x"), "verifier.params.test: unknown field"),
        (python_tests(tests=[]), "must be Python code"),
        (python_tests(tests="x", entry_point="a b"), "verifier.params.entry_point = 'a b': must be a name"),
        ({**E2B, "test_sh": " "}, "verifier.test_sh: is empty"),
        ({**E2B, "dockerfile": "FROM ubuntu:24.04"}, "'FROM ubuntu:24.04' cannot be honoured"),
        ({**E2B, "dockerfile": "FROM python:2.7"}, "wants Python 2.7; this machine's is"),
    ],
)
def test_tests_that_cannot_run_are_named_with_file_and_line(
    tmp_path: Path, verifier: dict[str, Any], said: str
) -> None:
    (problem,) = check_benchmark(write(tmp_path / "bench", verifier))
    assert f"{tmp_path}/bench/tasks.jsonl:1" in problem and said in problem


def test_a_missing_bubblewrap_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = write(tmp_path / "bench", python_tests(**ADD))
    sandbox.problem.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = check_benchmark(entry)
    assert "bwrap, of the package bubblewrap, is not installed" in problem and "apt-get install bubblewrap" in problem
    sandbox.problem.cache_clear()


def test_a_limit_longer_than_the_verifier_waits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sandbox_limits\.seconds = 20 must be below verifier_timeout = 10"):
        BenchmarkConfig.model_validate({"path": "x", "sandbox": "bubblewrap", "sandbox_limits": {"seconds": 20}})
