"""Writes docs/config.md from the types: every field with its type, default and meaning.

python scripts/make_config_docs.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evsys_hydra import config
from evsys_hydra.registry import ALL

TARGET = Path(__file__).resolve().parent.parent / "docs" / "config.md"
TYPES = (
    config.ExperimentConfig,
    config.ModelConfig,
    config.LoraConfig,
    config.DataConfig,
    config.HubData,
    config.DataTemplate,
    config.MetadataConfig,
    config.Comparison,
    config.BenchmarkConfig,
    config.ChatTemplate,
    config.ContinualConfig,
    config.StageConfig,
)
HEAD = """\
# Config reference

Made from the types by `python scripts/make_config_docs.py`. The composed config of a command line is shown by
`python -m evsys_hydra --cfg job`; the same as JSON schema: `evsys-hydra schema`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(section(model.__name__, model) for model in TYPES)]
    for name, registry in ALL.items():
        kinds = ", ".join(f"`{kind}`" for kind in sorted(registry.builtin))
        parts.append(f"## {name} kinds\n\nChosen by `kind`: {kinds}.\n")
        for kind in sorted(registry.builtin):
            model = registry.get(kind).config
            if model is not None and set(model.model_fields) - {"kind"}:
                parts.append(section(f"{name} `{kind}`", model, level=3))
    return "\n".join(parts)


def section(title: str, model: type[BaseModel], level: int = 2) -> str:
    """One type as a table."""
    meaning = (model.__doc__ or "").strip().split("\n\n")[0]
    head = [f"{'#' * level} {title}", "", meaning, "", "| field | type | default | meaning |", "|---|---|---|---|"]
    rows = [
        f"| {name} | {kind(field)} | {default(field)} | {cell(field.description)} |" for name, field in fields(model)
    ]
    return "\n".join([*head, *rows, ""])


def fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in model.model_fields.items() if name != "kind"]


def kind(field: FieldInfo) -> str:
    text = getattr(field.annotation, "__name__", None) if isinstance(field.annotation, type) else str(field.annotation)
    for noise in ("typing.", "evsys_hydra.config.", "evsys_hydra.training.sft_config.", "<class '", "'>"):
        text = str(text).replace(noise, "")
    return cell(f"`{text}`")


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return cell("null" if value is None else f"`{value.model_dump() if isinstance(value, BaseModel) else value!r}`")


def cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == page() else f"{TARGET} is stale: python scripts/make_config_docs.py")
    TARGET.write_text(page())
