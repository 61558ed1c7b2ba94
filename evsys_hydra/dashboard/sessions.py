"""Sessions of browsers: a key is entered once, then a random cookie stands for it until it ends."""

from __future__ import annotations

import secrets
import time

from .keys import Keys, Member, hash_key, member_of

COOKIE = "evsys_session"
SECONDS = 12 * 3600
MOST = 10_000


class Sessions:
    """Who a cookie belongs to; kept in memory, so a restart ends them all, and a revoked key ends its own.

    Args:
        keys: hashes of the API keys and their projects; None: open, everybody is a member.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self._known: dict[str, tuple[str, float]] = {}

    @property
    def open(self) -> bool:
        """Whether no key is wanted."""
        return self._keys is None

    def begin(self, key: str) -> str | None:
        """A cookie's value for a key; None if it is wrong."""
        if self._keys is None or member_of(self._keys, f"Bearer {key}") is None:
            return None
        now = time.monotonic()
        self._known = {token: known for token, known in self._known.items() if known[1] > now}
        while len(self._known) >= MOST:
            self._known.pop(next(iter(self._known)))
        token = secrets.token_urlsafe(32)
        self._known[token] = (hash_key(key), now + SECONDS)
        return token

    def member(self, token: str | None) -> Member | None:
        """Whose session it is; None: nobody's."""
        if self._keys is None:
            return Member()
        hashed, ends = self._known.get(token or "", ("", 0.0))
        if ends <= time.monotonic() or hashed not in self._keys:
            return None
        return Member(self._keys[hashed])

    def end(self, token: str | None) -> None:
        """Forget a session."""
        self._known.pop(token or "", None)
