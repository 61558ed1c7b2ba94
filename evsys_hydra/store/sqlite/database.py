"""The SQLite file: connections, transactions, migrations.

One connection a thread, short transactions that wait for each other (10 s), WAL on a local disk, a rollback journal
on network file systems. Every transaction is on the disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ..errors import BadRequest, UnknownId, Unreachable
from .filesystem import is_network
from .records import Records, from_json, insert_sql, insert_values, now
from .schema import MIGRATIONS

BUSY_SECONDS = 10.0
__all__ = ["Database", "from_json", "insert_sql", "insert_values", "migrate", "now"]


class Database(Records):
    """An SQLite file with the store's tables.

    Args:
        path: made, with its folder, if it does not exist.
        safe_mode: no WAL; None: where the file system needs it.
        migrations: scripts from an empty file to the tables.

    Raises:
        StoreError: the file cannot be opened, is no database, or was made by a newer version.
    """

    def __init__(self, path: Path, *, safe_mode: bool | None = None, migrations: Sequence[str] = MIGRATIONS) -> None:
        self.path = path.expanduser().absolute()
        self._local = threading.local()
        self._open: weakref.WeakSet[_Connected] = weakref.WeakSet()
        with self._said():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unreachable(f"{self.path}: {error.strerror or error}") from error
            self.safe_mode = is_network(self.path) if safe_mode is None else safe_mode
            migrate(self.connection, migrations, self.path)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; a forked child gets its own."""
        known: _Connected | None = getattr(self._local, "known", None)
        if known is None or known.pid != os.getpid():
            known = _Connected(self._connect())
            self._open.add(known)
            self._local.known = known
        return known.connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _set_journal(connection, "DELETE" if self.safe_mode else "WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block or nothing of it; waits for other writers."""
        with self._said():
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def select(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._said():
            return self.connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close every thread's connection."""
        for known in list(self._open):
            known.connection.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise UnknownId(f"the record belongs to something that is not in this store ({error})") from error
        except sqlite3.OperationalError as error:
            raise Unreachable(f"{self.path}: {error}") from error
        except (sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError) as error:
            if "closed" in str(error):  # by another thread: the record is not at fault
                raise Unreachable(f"{self.path}: the store was closed") from error
            raise BadRequest(f"the store cannot hold this: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path}: {error}") from error


class _Connected:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pid = os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():  # a forked child must leave its parent's connection alone
            self.connection.close()


def migrate(connection: sqlite3.Connection, migrations: Sequence[str], path: Path) -> None:
    """Bring a file up to date, each step in a transaction of its own; several processes may try at once.

    Raises:
        StoreError: the file was made by a newer version.
    """
    while (version := _version(connection)) != len(migrations):
        if version > len(migrations):
            raise StoreError(
                f"{path} was made by a newer evsys_hydra (schema {version}, this one knows {len(migrations)}). "
                "Update evsys_hydra, or give store.path another file: it is rebuilt by `evsys-hydra sync --rebuild`."
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == version:  # nobody else was faster
                for statement in migrations[version].split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _set_journal(connection: sqlite3.Connection, mode: str) -> None:
    """The mode stays in the file; changing it needs the file for oneself, so an open file keeps the mode it has."""
    found = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    if found.upper() != mode:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
