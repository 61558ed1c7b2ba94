"""API keys: stored as hashes, compared in constant time, each bound to projects.

The file is the dashboard's own (keys.json beside the store, readable by its owner only); a key itself is shown once,
when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..record.files import read_json, write_json

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


def add_key(path: Path, name: str, projects: Sequence[str] | None) -> str:
    """Make a key and store its hash.

    Args:
        path: the file of keys; made if it does not exist.
        name: whose key it is; unique in the file.
        projects: ids of the projects it is for; None: all.

    Returns:
        The key, which can never be shown again.

    Raises:
        ConfigError: there is a key of this name.
    """
    entries = _entries(path)
    if any(entry["name"] == name for entry in entries):
        raise ConfigError(f"{path} has a key named {name!r} already. Remove that one first, or choose another name.")
    key = new_key()
    made = {"name": name, "sha256": hash_key(key), "projects": projects, "created": time.time()}
    _write(path, [*entries, made])
    return key


def known_keys(path: Path) -> list[dict[str, Any]]:
    """Name, projects and time of making (seconds since 1970) of each key; never the key."""
    return [{key: entry.get(key) for key in ("name", "projects", "created")} for entry in _entries(path)]


def remove_key(path: Path, name: str) -> None:
    """Forget a key: a running server refuses it from now on.

    Raises:
        ConfigError: there is none of this name.
    """
    entries = _entries(path)
    kept = [entry for entry in entries if entry["name"] != name]
    if len(kept) == len(entries):
        known = ", ".join(sorted(entry["name"] for entry in entries)) or "none"
        raise ConfigError(f"{path} has no key named {name!r}; keys: {known}")
    _write(path, kept)


def load_keys(path: Path) -> Keys:
    """The keys of a file, for `create_app`; none if there is no file."""
    return {
        entry["sha256"]: frozenset(entry["projects"]) if entry["projects"] is not None else None
        for entry in _entries(path)
    }


class KeyFile(Keys):
    """The keys of a file as they are now: read again when the file has changed.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._keys: Keys = {}

    def __getitem__(self, key: str) -> frozenset[str] | None:
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> Keys:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return self._keys
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            self._seen, self._keys = (found.st_mtime_ns, found.st_ino), load_keys(self._path)
        return self._keys


def _entries(path: Path) -> list[dict[str, Any]]:
    found = read_json(path)
    if found is None and path.exists():
        raise ConfigError(f"{path} cannot be read as a file of keys")
    return list(found or [])


def _write(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, list(entries))
    os.chmod(path, 0o600)
