"""Records in and out of tables, in the SQL that SQLite and PostgreSQL share; a database class brings the connection.

A query is written once, with `?` where a value goes. What the two do differently (connections, transactions, their
errors) is `sqlite.database.Database` and `postgres.database.PostgresDatabase`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

import orjson

from ...record.files import to_json
from ..errors import BadRequest, UnknownId
from ..protocol import Record
from .schema import Table

FIXED = ("id", "project_id", "experiment_id", "run_id", "created_at")


class Rows(Protocol):
    """What a statement gives."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Rows: ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object: ...


class Records(ABC):
    """The tables of a store, one record a row."""

    row_lock = ""
    """What a SELECT needs at its end so that no other transaction changes the row meanwhile."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Connection]:
        """Everything in the block or nothing of it; waits for other writers."""

    @abstractmethod
    def select(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""

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
            found = connection.execute(f"SELECT data FROM {table.name} WHERE id = ?{self.row_lock}", (id,)).fetchone()
            if found is None:
                raise UnknownId(f"no {table.what} {id!r} here")
            old = from_json(found[0])
            if fixed := [key for key in FIXED if key in patch and patch[key] != old.get(key)]:
                raise BadRequest(f"{fixed[0]} of a {table.what} cannot be changed")
            record: Record = {**old, **patch}
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
        condition = " AND ".join(f"{key} = ?" for key in given) or "1 = 1"
        rows = self.select(f"SELECT data FROM {table.name} WHERE {condition} ORDER BY n", tuple(given.values()))
        return [from_json(row[0]) for row in rows]

    def delete(self, table: Table, id: str) -> bool:
        """Remove a record and all that belongs to it; False if it was not there."""
        with self.transaction() as connection:
            return connection.execute(f"DELETE FROM {table.name} WHERE id = ?", (id,)).rowcount == 1


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
