"""The verifier process: takes batches of answers over a socket, sends rewards back.

Runs apart from the arm, so that a verifier that loops or crashes costs one prediction. Before each verification its
place in the batch is written into memory shared with the parent, which therefore knows the culprit when it kills this
process or finds it dead.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .sandbox import Limits

VerifierFn = Callable[[str, Any, dict[str, Any]], "float | Outcome"]
SEND_EVERY_S = 0.05
FIRST_LIMIT_S = 30.0
"""What the first verification by a function may take beyond the limit: it may import packages or load a dataset."""
ORPHAN_GRACE_S = FIRST_LIMIT_S + 5.0


class Job(NamedTuple):
    """One answer to verify."""

    fn_name: str
    output: str
    expected: Any
    params: dict[str, Any]


class Outcome(NamedTuple):
    """A reward in [0, 1], or why there is none; `facts` are kept in the prediction's metadata."""

    reward: float | None
    error: str | None = None
    facts: Mapping[str, Any] | None = None


class Setup(NamedTuple):
    """What a new verifier process is told.

    Args:
        files: plugin files to load before unpickling.
        verifiers: cloudpickle of {fn_name: function}.
        time_limit: seconds a verification may take.
        sandbox: what a sandboxed program may use; None: verifiers may not run any.
        versions: of the verifiers: after an edit a running process is not the one that is wanted.
    """

    files: tuple[str, ...]
    verifiers: bytes
    time_limit: float
    sandbox: Limits | None = None
    versions: frozenset[str] = frozenset()


def main(socket: int, shared: int) -> None:
    """Serve until the parent closes the socket.

    Args:
        socket: descriptor of the socket to the parent.
        shared: descriptor of 8 bytes of shared memory.
    """
    os.dup2(2, 1)  # what a verifier prints belongs to the log
    connection = Connection(socket)
    try:
        setup: Setup = pickle.loads(connection.recv_bytes())
        verifiers = _load(setup)
    except EOFError:
        return
    except BaseException as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("ready")
    place = mmap.mmap(shared, 8)
    while True:
        try:
            batch = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        _verify(batch, verifiers, setup.time_limit, place, connection)


def call(verify: VerifierFn, job: Job) -> Outcome:
    """The verifier's reward; anything else it does is the outcome's error."""
    try:
        given = verify(job.output, job.expected, job.params)
        outcome = given if isinstance(given, Outcome) else Outcome(float(given))
    except Exception as error:
        return Outcome(None, f"verifier {job.fn_name}: {type(error).__name__}: {error}")
    reward = outcome.reward
    if reward is not None and not 0.0 <= reward <= 1.0:  # nan neither
        return Outcome(None, f"verifier {job.fn_name}: returned {reward}; a reward is a number in [0, 1]")
    return outcome


def _load(setup: Setup) -> dict[str, VerifierFn]:
    from ..registry import load_plugins

    load_plugins(setup.files)
    if setup.sandbox is not None:
        from .sandbox import allow

        allow(setup.sandbox)
    loaded: dict[str, VerifierFn] = pickle.loads(setup.verifiers)
    return loaded


def _verify(
    batch: Sequence[Job], verifiers: dict[str, VerifierFn], time_limit: float, place: mmap.mmap, connection: Connection
) -> None:
    ready: list[Outcome] = []
    sent = time.monotonic()
    for index, job in enumerate(batch):
        struct.pack_into("q", place, 0, index)
        # The parent ends what takes too long; the alarm does if there is no parent any more.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, time_limit + ORPHAN_GRACE_S)
        try:
            outcome = call(verifiers[job.fn_name], job)
        except SystemExit as stopped:
            outcome = Outcome(None, f"verifier {job.fn_name}: called sys.exit({stopped.code!r})")
        signal.setitimer(signal.ITIMER_REAL, 0)
        ready.append(outcome)
        if time.monotonic() - sent > SEND_EVERY_S or index == len(batch) - 1:
            connection.send_bytes(pickle.dumps(ready))
            ready, sent = [], time.monotonic()


def command(socket: int, shared: int) -> list[str]:
    """The command line of a verifier process: this interpreter, with this process's import path."""
    package = str(Path(__file__).resolve().parents[2])
    path = [*(entry or os.getcwd() for entry in sys.path), package]
    code = f"import sys; sys.path[:] = {path!r}; from {__name__} import main; main({socket}, {shared})"
    return [sys.executable, "-c", code]
