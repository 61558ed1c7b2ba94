"""Datasets and benchmarks, and their rows, in SQL: one table, told apart by `kind`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...record.files import to_json
from ..errors import UnknownId
from ..protocol import DataRow, Record
from .records import Records, from_json
from .schema import DATASETS


class Datasets:
    """Operations on datasets and benchmarks. Rows replace earlier rows of the same index."""

    db: Records
    project_id: str | None

    def create_dataset(
        self,
        name: str,
        format: str,
        *,
        version: int = 1,
        source_kind: str | None = None,
        transform: Any = None,
        storage_uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        project_id: str | None = None,
        id: str | None = None,
    ) -> Record:
        record = {
            "project_id": project_id or self.project_id,
            "kind": "dataset",
            "name": name,
            "format": format,
            "version": version,
            "source_kind": source_kind,
            "transform": transform,
            "storage_uri": storage_uri,
            "metadata": metadata or {},
        }
        return self.db.put(DATASETS, record, id)

    def create_benchmark(
        self,
        name: str,
        format: str,
        *,
        version: int = 1,
        source_kind: str | None = None,
        transform: Any = None,
        storage_uri: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        project_id: str | None = None,
        id: str | None = None,
    ) -> Record:
        record = {
            "project_id": project_id or self.project_id,
            "kind": "benchmark",
            "name": name,
            "format": format,
            "version": version,
            "source_kind": source_kind,
            "transform": transform,
            "storage_uri": storage_uri,
            "metadata": metadata or {},
        }
        return self.db.put(DATASETS, record, id)

    def add_dataset_rows(self, dataset_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]:
        return self._add_rows(dataset_id, "dataset", rows, start_idx)

    def add_benchmark_rows(self, benchmark_id: str, rows: Sequence[Any], *, start_idx: int = 0) -> list[Any]:
        return self._add_rows(benchmark_id, "benchmark", rows, start_idx)

    def get_dataset(self, dataset_id: str) -> Record | None:
        return self._get(dataset_id, "dataset")

    def get_benchmark(self, benchmark_id: str) -> Record | None:
        return self._get(benchmark_id, "benchmark")

    def get_dataset_rows(self, dataset_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]:
        return self._rows(dataset_id, "dataset", limit, offset)

    def get_benchmark_rows(self, benchmark_id: str, *, limit: int = 100, offset: int = 0) -> list[DataRow]:
        return self._rows(benchmark_id, "benchmark", limit, offset)

    def list_datasets(self, *, project_id: str | None = None) -> list[Record]:
        return self.db.all(DATASETS, kind="dataset", project_id=project_id or self.project_id)

    def list_benchmarks(self, *, project_id: str | None = None) -> list[Record]:
        return self.db.all(DATASETS, kind="benchmark", project_id=project_id or self.project_id)

    def _get(self, id: str, kind: str) -> Record | None:
        found = self.db.get(DATASETS, id)
        if found is None or found["kind"] != kind:
            return None
        n_rows = self.db.select("SELECT count(*) FROM dataset_rows WHERE dataset_id = ?", (id,))[0][0]
        return {**found, "n_rows": n_rows}

    def _known(self, id: str, kind: str) -> None:
        found = self.db.get(DATASETS, id)
        if found is None or found["kind"] != kind:
            raise UnknownId(f"no {kind} {id!r} here")

    def _add_rows(self, id: str, kind: str, rows: Sequence[Any], start_idx: int) -> list[Any]:
        self._known(id, kind)
        values = [(id, start_idx + place, to_json(row).decode()) for place, row in enumerate(rows)]
        with self.db.transaction() as connection:
            connection.executemany(
                "INSERT INTO dataset_rows VALUES (?, ?, ?) "
                "ON CONFLICT (dataset_id, idx) DO UPDATE SET payload = excluded.payload",
                values,
            )
        return [{"idx": idx} for _, idx, _ in values]

    def _rows(self, id: str, kind: str, limit: int, offset: int) -> list[DataRow]:
        self._known(id, kind)
        rows = self.db.select(
            "SELECT idx, payload FROM dataset_rows WHERE dataset_id = ? ORDER BY idx LIMIT ? OFFSET ?",
            (id, limit, offset),
        )
        return [{"idx": idx, "payload": from_json(payload)} for idx, payload in rows]
