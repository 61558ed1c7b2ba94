"""Validation errors as a user wants to read them: field, value, what is wrong, and what is valid."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from .hints import did_you_mean


def describe_validation(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each problem as `field = value: what is wrong`; an unknown field comes with the valid ones.

    Args:
        model: the model that was validated.
    """
    return [_describe(dict(part), model) for part in error.errors(include_url=False)]


def _describe(part: dict[str, Any], model: type[BaseModel]) -> str:
    loc = part["loc"]
    where = ".".join(str(step) for step in loc)
    if part["type"] == "extra_forbidden":
        return f"{where}: unknown field{_nearest(str(loc[-1]), _model_at(model, loc[:-1]))}"
    if part["type"] == "missing":
        return f"{where}: is required"
    given = part.get("input")
    shown = "" if isinstance(given, dict | list) or not loc else f" = {given!r}"
    message = part["msg"].removeprefix("Value error, ")
    return f"{where}{shown}: {message}" if where else message


def _nearest(name: str, model: type[BaseModel] | None) -> str:
    if model is None:
        return ""
    fields = sorted(model.model_fields)
    return f"{did_you_mean(name, fields)}. Valid fields: {', '.join(fields)}"


def _model_at(model: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int) or current is None:
            continue
        field = current.model_fields.get(str(step))
        current = _model_in(field.annotation) if field is not None else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part)) is not None), None)
