"""What a message about an unknown name suggests; imports nothing that takes time."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """ " (did you mean 'x'?)", with the nearest of what is known; empty if nothing is near."""
    near = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
