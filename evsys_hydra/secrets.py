"""Keeping what `${oc.env:NAME}` stands for out of everything that is written or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

REFERENCE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
SHORTEST = 4
"""Shorter values are too common in ordinary text to be replaced."""


def referenced(text: str) -> list[str]:
    """The variables of the environment that a config refers to, in the order they stand there."""
    return list(dict.fromkeys(REFERENCE.findall(text)))


def scrub(text: str, names: Iterable[str], reference: str = "${{oc.env:{}}}") -> str:
    """`text` with the values of these variables replaced by their references."""
    for name in names:
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST:
            text = text.replace(value, reference.format(name))
    return text
