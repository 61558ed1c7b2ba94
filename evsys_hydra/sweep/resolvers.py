"""What conf/ relies on: where it is, and the resolvers that its files use."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf


def config_directory() -> str:
    """Where conf/ is: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return str(next(path for path in (package / "conf", package.parent / "conf") if path.is_dir()))


def register_resolvers() -> None:
    """`evsys.first`: the first of its arguments that is not null."""
    OmegaConf.register_new_resolver(
        "evsys.first", lambda *values: next((value for value in values if value is not None), None), replace=True
    )
