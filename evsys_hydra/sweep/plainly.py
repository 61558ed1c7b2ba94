"""Errors made for the user, shown by Hydra as they are: without a traceback, and with exit status 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException

from ..errors import EvsysError


@contextmanager
def plainly() -> Iterator[None]:
    """Turn an EvsysError into the exception that Hydra prints without a traceback."""
    try:
        yield
    except EvsysError as error:
        raise PlainError(str(error)) from error


class PlainError(CompactHydraException):
    """Carries the text of an EvsysError through Hydra."""
