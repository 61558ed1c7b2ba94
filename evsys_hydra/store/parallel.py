"""Many calls at once, an outcome for each; after the first one that finds the store failing, the rest is not tried.

The threads are daemons on purpose: those of concurrent.futures are waited for when the interpreter exits, and a hung
socket would hold up the driver's end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import StoreError
from .errors import BadRequest, Unreachable

T = TypeVar("T")


def outcomes(call: Callable[[T], object], items: Sequence[T], workers: int) -> list[StoreError | None]:
    """Call with each item.

    Returns:
        For each item None, or the StoreError of its call; items that were not tried have an Unreachable.
    """
    found: list[StoreError | None] = [Unreachable("not sent: the store failed before")] * len(items)
    left = iter(range(len(items)))
    lock = threading.Lock()
    failed = threading.Event()

    def work() -> None:
        while not failed.is_set():
            with lock:
                place = next(left, None)
            if place is None:
                return
            try:
                call(items[place])
                found[place] = None
            except BadRequest as error:  # this one record is at fault, the store is not
                found[place] = error
            except StoreError as error:
                found[place] = error
                failed.set()
            except Exception as error:
                found[place] = StoreError(f"{type(error).__name__}: {error}")
                failed.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
