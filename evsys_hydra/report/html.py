"""The templates, with the filters they use. Everything is escaped unless it is markup of our own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from .. import __version__
from ..ranking.phrases import number, probability
from ..record.files import to_json
from ..sweep.naming import show

NOTHING = "\u2013"
HERE = Path(__file__).parent
STATIC = HERE / "static"
CLIP = 20_000


@cache
def environment() -> Environment:
    """The templates of the report and of the dashboard."""
    folders = [HERE / "templates", HERE.parent / "dashboard" / "templates"]
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=figure,
        p=probability,
        shown=shown,
        seconds=seconds,
        moment=moment,
        clipped=clipped,
        marked=marked,
    )
    made.globals["version"] = __version__
    return made


def render(template: str, **values: Any) -> str:
    """A template filled."""
    return environment().get_template(template).render(**values)


def figure(value: Any) -> str:
    """A count in full, a measure in three decimals, what is no number as a dash."""
    if not _is_number(value):
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else number(value)


def shown(value: Any) -> str:
    """A config value as it is written: 1e-5, true, [1,2]."""
    if isinstance(value, list | dict):
        return to_json(value).decode()
    return show(value)


def seconds(value: float | None) -> str:
    """'4.2 s', '12 min', '3 h 05 min'."""
    if not _is_number(value):
        return NOTHING
    assert value is not None
    if round(value) < 60:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def moment(value: Any) -> Markup:
    """A time (ISO 8601 or seconds since 1970) as <time>; a script turns it into an age."""
    try:
        at = datetime.fromtimestamp(value, UTC) if _is_number(value) else datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return escape(NOTHING)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    iso = at.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}">{} UTC</time>').format(iso, at.astimezone(UTC).strftime("%Y-%m-%d %H:%M"))


def clipped(value: Any) -> str:
    """A text as a page shows it: what is no text as JSON, what is endless cut."""
    if not isinstance(value, str):
        value = to_json(value).decode()
    return value if len(value) <= CLIP else f"{value[:CLIP]}\n... {len(value) - CLIP:,} more characters"


def marked(text: str) -> Markup:
    """A paragraph of a conclusion with its numbers kept together on a line."""
    return Markup(str(escape(text)).replace("% CI", "%\u00a0CI").replace("p = ", "p\u00a0=\u00a0"))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted keys."""
    made: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            made.update(flat(value, f"{name}."))
        else:
            made[name] = value
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
