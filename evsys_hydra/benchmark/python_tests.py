"""`python_tests`: the answer is Python code, and passes if the task's tests do, in a sandbox.

Answer and tests run in one process, as in HumanEval and MBPP. Ending that process early does not pass: the result
counts only behind a word that is made anew for each run. An answer written to search the process for that word could
find it.
"""

from __future__ import annotations

import inspect
import re
import secrets
from typing import Any

from ..registry import register_verifier
from .sandbox import Ran, run
from .sandbox_program import run_tests
from .worker import Outcome

SHOWN = 2000
_BLOCK = re.compile(r"```[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


@register_verifier("python_tests")
def python_tests(output: str, expected: Any, params: dict[str, Any]) -> Outcome:
    """1 if the code in the answer passes the tests; params as `params_problem` says.

    params: tests (a text, or a list of texts, each one test: it passes if it raises nothing), entry_point (a name that
    the answer defines; a test that defines `check` has it called with it), partial (the share of passed tests counts).
    """
    tests = _tests(params)
    entry_point, word = params.get("entry_point"), secrets.token_hex(16)
    arguments = (code_in(output, entry_point), tests, entry_point, word)
    ran = run(f"{inspect.getsource(run_tests)}\nrun_tests{arguments!r}")
    passed = _passed(ran, word)
    share = passed / len(tests)
    reward = share if params.get("partial") else float(passed == len(tests))
    facts: dict[str, Any] = {"tests_passed": passed, "tests": len(tests)}
    return Outcome(reward, None, facts if share == 1 else {**facts, **said(ran, word)})


def params_problem(params: dict[str, Any]) -> str | None:
    """What is wrong with the params of a task, naming the field; None: nothing."""
    known = ("tests", "entry_point", "partial")
    if unknown := sorted(set(params) - set(known)):
        return f"verifier.params.{unknown[0]}: unknown field. Valid fields: {', '.join(known)}"
    tests = params.get("tests")
    if not (isinstance(tests, str | list) and tests and all(isinstance(test, str) for test in tests)):
        return f"verifier.params.tests = {tests!r}: must be Python code: a text, or a list of texts"
    for test in _tests(params):
        try:
            compile(test, "tests", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return f"verifier.params.tests: not Python: {error}"
    entry_point = params.get("entry_point")
    if entry_point is not None and not (isinstance(entry_point, str) and entry_point.isidentifier()):
        return f"verifier.params.entry_point = {entry_point!r}: must be a name"
    return None


def code_in(answer: str, entry_point: str | None = None) -> str:
    """The code of an answer: its last fenced block of Python, of those that define `entry_point` if any does.

    A block without a language counts, and one that the answer's end cut off; an answer without a block is all code.
    """
    blocks = [code for language, code in _BLOCK.findall(answer) if language.lower() in ("", "python", "py", "python3")]
    if entry_point is not None:
        defines = re.compile(
            rf"^(?:async\s+def|def|class)\s+{re.escape(entry_point)}\b|^{re.escape(entry_point)}\s*=", re.M
        )
        blocks = [code for code in blocks if defines.search(code)] or blocks
    return blocks[-1] if blocks else answer


def said(ran: Ran, word: str | None = None) -> dict[str, Any]:
    """Facts for the prediction's metadata: the limit that was hit, and the end of what was printed."""
    output = ran.output if word is None else ran.output.replace(word, "")
    facts = {"sandbox_stopped": ran.stopped, "sandbox_output": output.strip()[-SHOWN:]}
    return {name: value for name, value in facts.items() if value}


def _tests(params: dict[str, Any]) -> list[str]:
    tests = params["tests"]
    return [tests] if isinstance(tests, str) else list(tests)


def _passed(ran: Ran, word: str) -> int:
    """Tests passed, as the program says in its last words; 0 if it did not get there."""
    found = re.findall(rf"^{word} (\d+)$", ran.output, re.MULTILINE)
    return int(found[-1]) if found and ran.passed else 0
