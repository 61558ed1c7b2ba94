"""Keeps a store up to date with experiments' directories while the dashboard is open."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..record.queues import queue_of
from ..store.protocol import EvsysStore
from ..store.sync import sync

EVERY_S = 3.0
QUEUE_PASSES = 5
"""A cluster's queue is asked at each fifth pass only."""

log = logging.getLogger(__name__)


@contextmanager
def following(directories: Sequence[Path], store: EvsysStore) -> Iterator[None]:
    """During the block, bring what is new in the directories into the store; before it, all that is there."""
    stop = threading.Event()
    for directory in directories:
        _bring(directory, store)
    thread = threading.Thread(target=_follow, args=(directories, store, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(EVERY_S)


def _follow(directories: Sequence[Path], store: EvsysStore, stop: threading.Event) -> None:
    passes = itertools.count(1)
    while directories and not stop.wait(EVERY_S):
        number = next(passes)
        for directory in directories:
            if queue_of(directory) is None or number % QUEUE_PASSES == 0:
                _bring(directory, store)


def _bring(directory: Path, store: EvsysStore) -> None:
    try:
        report = sync(directory, store, count=False)
    except Exception as error:  # a directory that is gone must not end the server
        log.warning("%s: %s", directory, error)
        return
    if report.error is not None:
        log.warning("%s: %s", directory, report.error)
