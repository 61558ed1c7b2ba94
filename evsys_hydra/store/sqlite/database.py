"""The SQLite file: connections, transactions, migrations, and records in and out of tables.

One connection a thread, short transactions that wait for each other (10 s), WAL on a local disk, a rollback journal
on network file systems. Every transaction is on the disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from ...errors import StoreError
from ...record.files import to_json
from ..errors import BadRequest, UnknownId, Unreachable
from ..protocol import Record
from .filesystem import is_network
from .schema import MIGRATIONS, Table

BUSY_SECONDS = 10.0
FIXED = ("id", "project_id", "experiment_id", "run_id", "created_at")


class Database:
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

    # -- records ---------------------------------------------------------------------------------------------------

    def put(self, table: Table, record: Mapping[str, Any], id: str | None = None) -> Record:
        """Add a record; if its id is there already, nothing is changed and what is there is given back."""
        made = {"id": id or uuid4().hex, **record, "created_at": now()}
        with self.transaction() as connection:
            done = connection.execute(insert_sql(table), insert_values(table, made))
            if done.rowcount == 1:
                return made
        found = self.get(table, made["id"])
        assert found is not None
        return found

    def get(self, table: Table, id: str) -> Record | None:
        """The record of an id."""
        rows = self.select(f"SELECT data FROM {table.name} WHERE id = ?", (id,))
        return from_json(rows[0][0]) if rows else None

    def patch(self, table: Table, id: str, patch: Mapping[str, Any]) -> Record:
        """Set fields of a record.

        Raises:
            UnknownId: no such record.
            BadRequest: a field that says where the record belongs.
        """
        with self.transaction() as connection:
            row = connection.execute(f"SELECT data FROM {table.name} WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise UnknownId(f"no {table.what} {id!r} here")
            old = from_json(row[0])
            if fixed := [key for key in FIXED if key in patch and patch[key] != old.get(key)]:
                raise BadRequest(f"{fixed[0]} of a {table.what} cannot be changed")
            record = {**old, **patch}
            record["updated_at"] = now()
            columns = "".join(f", {key} = ?" for key in table.keys)
            values = [record.get(key) for key in table.keys]
            connection.execute(
                f"UPDATE {table.name} SET data = ?{columns} WHERE id = ?", (to_json(record).decode(), *values, id)
            )
        return record

    def all(self, table: Table, **where: Any) -> list[Record]:
        """The records whose key columns have these values, in order of arrival; None stands for any value."""
        given = {key: value for key, value in where.items() if value is not None}
        condition = " AND ".join(f"{key} = ?" for key in given) or "1"
        rows = self.select(f"SELECT data FROM {table.name} WHERE {condition} ORDER BY n", tuple(given.values()))
        return [from_json(row[0]) for row in rows]

    def delete(self, table: Table, id: str) -> bool:
        """Remove a record and all that belongs to it; False if it was not there."""
        with self.transaction() as connection:
            return connection.execute(f"DELETE FROM {table.name} WHERE id = ?", (id,)).rowcount == 1


class _Connected:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pid = os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():  # a forked child must leave its parent's connection alone
            self.connection.close()


def insert_sql(table: Table) -> str:
    """Adds a row unless its id is there."""
    names = ", ".join(("id", *table.keys, "data"))
    marks = ", ".join("?" * (len(table.keys) + 2))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"


def insert_values(table: Table, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of `insert_sql`."""
    return (record["id"], *(record.get(key) for key in table.keys), to_json(record).decode())


def from_json(text: str) -> Any:
    """What `to_json` made."""
    return orjson.loads(text)


def now() -> str:
    """The time as records carry it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
