"""How many requests are made at a time: as many as the server bears."""

from __future__ import annotations

import asyncio
import random
import time

LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0


class Gate:
    """Lets a bounded number of requests through: halved at a 429, grown back by one for each round that goes well.

    Args:
        most: the bound, and where it begins.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self.limit = float(most)
        self._active = 0
        self._closed_until = 0.0
        self._slowed_at = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        while True:
            async with self._changed:
                pause = self._closed_until - time.monotonic()
                if pause <= 0 and self._active < max(1, int(self.limit)):
                    self._active += 1
                    return
                if pause <= 0:
                    await self._changed.wait()
            if pause > 0:
                await asyncio.sleep(pause)

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self._active -= 1
            self._changed.notify_all()  # the limit may have grown meanwhile

    def went_well(self) -> None:
        """An answer came."""
        self.limit = min(self._most, self.limit + 1.0 / self.limit)

    def slow_down(self, retry_after: float | None) -> None:
        """The server said 429: fewer at a time (once for a burst of them), and none before Retry-After is over."""
        now = time.monotonic()
        if now - self._slowed_at > 0.5:
            self._slowed_at = now
            self.limit = max(1.0, self.limit / 2)
        if retry_after is not None:
            self._closed_until = max(self._closed_until, now + min(retry_after, LONGEST_RETRY_AFTER_S))


def backoff(attempt: int, first: float, retry_after: float | None) -> float:
    """Seconds to wait before the next attempt: Retry-After if the server said it, else exponential with full jitter."""
    jittered = random.uniform(0.0, min(LONGEST_WAIT_S, first * 2.0**attempt))
    return jittered if retry_after is None else min(retry_after, LONGEST_RETRY_AFTER_S) + min(jittered, first)
