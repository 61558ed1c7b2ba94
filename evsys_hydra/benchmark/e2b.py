"""Tasks of kind `e2b`: a test script decides, run on the answer in the local sandbox.

The sandbox has this machine's programs and this interpreter with its packages; no image is built. So of a dockerfile
only `FROM python` (any tag whose version is this interpreter's) and comments can be honoured, and all else is refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from .python_tests import code_in, said
from .sandbox import run
from .task import E2B
from .worker import Job, Outcome

FN_NAME = "kind e2b"
"""Its name among a verifier process's functions; no registered verifier's, which have no space."""
BASH = "/bin/bash"
_REWARD = re.compile(r"reward:\s*(0(?:\.\d+)?|\.\d+|1(?:\.0+)?)")
_FROM = re.compile(r"FROM\s+(?:--platform=\S+\s+)?(?:docker\.io/)?(?:library/)?python(?::(\S+))?(?:\s+AS\s+\S+)?", re.I)


def job_of(verifier: E2B, output: str) -> Job:
    """The verification of one answer."""
    return Job(
        FN_NAME, output, verifier.expected, {"test_sh": verifier.test_sh, "test_state_py": verifier.test_state_py}
    )


def run_test_sh(output: str, expected: Any, params: dict[str, Any]) -> Outcome:
    """Run test.sh; exit status 0 is 1, or what its last line `reward: <number in [0, 1]>` says; any other is 0."""
    files = {
        "answer.txt": output,
        "answer.py": code_in(output),
        "test.sh": params["test_sh"],
        "test_state.py": params["test_state_py"],
    }
    ran = run(f"import os\nos.execv({BASH!r}, ['bash', '/tests/test.sh'])", files)
    reward = float(ran.passed)
    last = ran.output.strip().rpartition("\n")[2]
    if ran.passed and (given := _REWARD.fullmatch(last.strip())):
        reward = float(given[1])
    return Outcome(reward, None, {} if reward == 1 else said(ran))


def e2b_problem(verifier: E2B) -> str | None:
    """What keeps a task from being run here, naming the field; None: nothing."""
    if not verifier.test_sh.strip():
        return "verifier.test_sh: is empty, so every answer would pass"
    if not Path(BASH).exists():
        return f"verifier.test_sh: needs {BASH}, which this machine does not have"
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for line in verifier.dockerfile.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        image = _FROM.fullmatch(line.strip())
        if image is None:
            return (
                f"verifier.dockerfile: {line.strip()!r} cannot be honoured: no image is built, the tests run with this "
                "machine's Python and packages. Only `FROM python[:version]` and comments may stand in it"
            )
        wanted = re.match(r"\d+(?:\.\d+)?", image[1] or "")
        if wanted and not f"{here}.".startswith(f"{wanted[0]}."):
            return f"verifier.dockerfile: {line.strip()!r} wants Python {wanted[0]}; this machine's is {here}"
    return None
