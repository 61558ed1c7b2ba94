"""Which weights answer: what was sampled from one checkpoint is never taken for another's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from ..record.files import read_json


def weights_identity(model: dict[str, Any], checkpoint: str | Path | None) -> str:
    """The weights that answer: the model's config and the checkpoint's manifest, or its files' sizes and times."""
    files: Any = None
    if checkpoint is not None and Path(checkpoint).is_dir():
        manifest = read_json(Path(checkpoint) / "manifest.json")
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if files is None:
            found = sorted(file for file in Path(checkpoint).rglob("*") if file.is_file())
            files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found]
    text = orjson.dumps([model, None if files is not None else str(checkpoint), files], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()
