"""Names that are safe as a folder or file name."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 120


def safe_name(name: str) -> str:
    """`name` with everything but letters, digits and `.=,+-_` replaced by `-`.

    Too long names are cut and end in a hash of the whole, so that different names stay different.
    """
    safe = re.sub(r"[^\w.=,+-]+", "-", name).strip("-") or "unnamed"
    if safe.startswith("."):
        safe = f"_{safe}"
    if len(safe) > MAX_LENGTH:
        safe = f"{safe[: MAX_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return safe
