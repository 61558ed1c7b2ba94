"""The `postgres` store: the local store's tables in a PostgreSQL database, for a team whose records outgrow a file."""

from .store import PostgresStore, PostgresStoreConfig

__all__ = ["PostgresStore", "PostgresStoreConfig"]
