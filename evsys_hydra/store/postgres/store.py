"""The `postgres` store and its settings. Needs the extra: pip install 'evsys_hydra[postgres]'."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, model_validator

from ...config import KindConfig
from ...registry import register_store
from ..protocol import BulkStore
from ..sqlite.store import SqlStore
from .database import PostgresDatabase

SCHEMES = ("postgresql", "postgres")


class PostgresStoreConfig(KindConfig):
    """Records go into a PostgreSQL database. The password comes from the environment: PGPASSWORD, or oc.env."""

    kind: Literal["postgres"] = "postgres"
    url: str = "postgresql://"
    """postgresql://user@host:5432/database; what it leaves out is as for psql: PGHOST, PGUSER, ~/.pgpass, ..."""
    project_id: str | None = None
    """Project that experiments belong to; null: none."""
    timeout_s: float = Field(20.0, gt=0)
    """Longest time to connect, and of one transaction, in seconds."""

    @model_validator(mode="after")  # of the whole model: an error of the field alone would show its value
    def _usable(self) -> PostgresStoreConfig:
        try:
            parts = urlsplit(self.url)
            passwords = [unquote(parts.password or ""), *parse_qs(parts.query).get("password", [])]
        except ValueError:
            raise ValueError("url is none: write postgresql://user@host:5432/database") from None
        if parts.scheme not in SCHEMES:
            raise ValueError("url must begin with postgresql://, as in postgresql://user@host:5432/database")
        known = {*os.environ.values(), *(unquote(value) for value in os.environ.values())}
        if any(password and password not in known for password in passwords):
            raise ValueError(
                "url holds a password, which would get into files and process lists. Leave it out and set PGPASSWORD "
                "(or ~/.pgpass), or write ${oc.env:NAME} in its place"
            )
        return self


class PostgresStore(SqlStore):
    """Every operation of EvsysStore on a PostgreSQL database.

    Args:
        url: postgresql://user@host:5432/database.
        project_id: filled in where an operation belongs to a project and none is given.
        timeout_s: longest time to connect, and of one transaction.

    Raises:
        StoreError: the database cannot be used.
    """

    db: PostgresDatabase

    def __init__(self, url: str = "postgresql://", *, project_id: str | None = None, timeout_s: float = 20.0) -> None:
        super().__init__(PostgresDatabase(url, timeout_s=timeout_s), "postgres", project_id)

    def __repr__(self) -> str:
        return f"PostgresStore({self.db.shown!r})"


@register_store("postgres", config=PostgresStoreConfig)
def open_postgres(config: PostgresStoreConfig) -> BulkStore:
    """The store that the settings name."""
    return PostgresStore(config.url, project_id=config.project_id, timeout_s=config.timeout_s)
