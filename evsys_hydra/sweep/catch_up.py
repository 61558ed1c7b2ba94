"""Bringing an experiment's store and trackers up to date from its directory alone, where no driver is left to do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..causes import describe
from ..composed import shared_part
from ..config import KindConfig, typed

if TYPE_CHECKING:
    from ..store import EvsysStore
    from ..store.sync import SyncReport


def catch_up(directory: Path, *, budget_s: float) -> list[str]:
    """Send what the experiment's own store and trackers do not have yet; never raises.

    Args:
        budget_s: give up after about so many seconds for the store, and as many for the trackers. A compute node often
            has no internet: a dashboard that cannot be reached from it is left to a later `evsys-hydra sync`.

    Returns:
        What was sent and what waits, a line for each.
    """
    from ..store import open_store
    from ..store.sync import sync
    from ..trackers.process import send
    from .conclude import note_waiting

    said = []
    try:
        settings = store_settings(directory)
        if settings.kind != "none":
            sent = sync(directory, open_store(settings), budget_s=budget_s)
            note_waiting(directory, sent.waiting)
            said.append(f"store {settings.kind}: {sent}")
    except Exception as error:  # the experiment is concluded; its records are on disk
        said.append(f"store: {describe(error)}")
    try:
        for name, report in send(directory, budget_s=budget_s).items():
            said.append(f"tracker {name}: {_told(report)}")
    except Exception as error:
        said.append(f"trackers: {describe(error)}")
    return said


@dataclass(frozen=True)
class Sent:
    """What of an experiment went to its store and its trackers."""

    directory: Path
    store: SyncReport
    trackers: dict[str, dict[str, object]]

    @property
    def failed(self) -> bool:
        return bool(self.store.error) or any(report["error"] for report in self.trackers.values())

    @property
    def facts(self) -> dict[str, Any]:
        return {"directory": str(self.directory), **vars(self.store), "trackers": self.trackers}

    def __str__(self) -> str:
        lines = [f"{self.directory}: {self.store}"]
        for name, report in self.trackers.items():
            lines.append(f"  {name}: {_told(report)}")
        return "\n".join(lines)


def send_all(
    directories: Sequence[Path], store: str | None = None, file: Path | None = None, *, rebuild: bool = False
) -> list[Sent]:
    """Send what stores and trackers do not have yet of these experiments.

    Args:
        store: a kind, or postgresql://...; None: each experiment's own (`auto` for one that has none).
        file: the local store's file.
        rebuild: make the store's records of them again.

    Raises:
        EvsysError: a store that cannot be opened.
    """
    from ..store import open_store, open_store_at
    from ..store.sync import rebuild as run_rebuild
    from ..store.sync import sync
    from ..trackers.process import send
    from .conclude import note_waiting

    place = str(file) if file is not None else store if store and "://" in store else None
    given = open_store_at(place) if place is not None else open_store(_settings(store)) if store is not None else None
    opened: dict[str, EvsysStore] = {}
    done = []
    for directory in directories:
        target = given or _own_store(directory, opened)
        report = run_rebuild(target, [directory])[0] if rebuild else sync(directory, target)
        note_waiting(directory, report.waiting)
        done.append(Sent(directory, report, send(directory)))
    return done


def _own_store(directory: Path, opened: dict[str, EvsysStore]) -> EvsysStore:
    from ..store import open_store

    settings = store_settings(directory)
    settings = _settings("auto") if settings.kind == "none" else settings
    key = settings.model_dump_json()
    if key not in opened:
        opened[key] = open_store(settings)
    return opened[key]


def _told(report: Mapping[str, object]) -> str:
    return f"{report['sent']} sent{f': {error}' if (error := report['error']) else ''}"


def _settings(kind: str) -> KindConfig:
    registry.stores.get(kind)  # an unknown one: said with the known ones
    settings: KindConfig = typed(registry.stores, {"kind": kind})
    return settings


def store_settings(directory: Path) -> KindConfig:
    """The store that the experiment's arms were composed with.

    Raises:
        RecordError, ConfigError, ValueError: the config of its first arm cannot be read, or names no known store.
    """
    settings: KindConfig = typed(registry.stores, shared_part(directory, "store") or {"kind": "none"})
    return settings
