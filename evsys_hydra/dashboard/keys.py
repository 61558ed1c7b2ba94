"""API keys: stored as hashes, compared in constant time, each bound to projects."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

Keys = Mapping[str, frozenset[str] | None]
"""Hash of each key -> the projects it is for; None: all."""


@dataclass(frozen=True)
class Member:
    """Who asks: the projects that their key is for; None: all."""

    projects: frozenset[str] | None = None


def new_key() -> str:
    """A key that nobody can guess (256 bits)."""
    return f"evsys_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """What is stored of a key. Keys are random, so a plain hash cannot be turned around."""
    return hashlib.sha256(key.encode()).hexdigest()


def member_of(keys: Keys, authorization: str | None) -> Member | None:
    """Who an Authorization header belongs to; None: nobody. Takes as long for any wrong key."""
    scheme, _, key = (authorization or "").partition(" ")
    offered = hash_key(key.strip() if scheme.lower() == "bearer" else "")
    found: Member | None = None
    for known, projects in keys.items():
        if hmac.compare_digest(known, offered):
            found = Member(projects)
    return found
