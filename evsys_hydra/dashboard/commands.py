"""`evsys-hydra dashboard`: serve the pages, and make, list and revoke the keys that other machines need."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

PORT = 8000
Store = Annotated[
    str | None, typer.Option(help="The store: a file, or postgresql://user@host/db; default: this user's.")
]


class ServeByDefault(TyperGroup):
    """A group whose command `serve` needs no name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # the context's class depends on typer's version
        if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ServeByDefault,
    help="Look at experiments in a browser: dashboard [--port N] [--host H] [--store S] [DIRECTORY...]; "
    "dashboard serve --help says more.",
)
keys_app = typer.Typer(no_args_is_help=True, help="The API keys for other machines.")
app.add_typer(keys_app, name="keys")


@app.command()
def serve(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Experiments' directories to bring into the store and keep up to date.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; any but this machine's own needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any that is free.")] = PORT,
    store: Store = None,
    require_key: Annotated[bool, typer.Option(help="Ask for a key on this machine too, as behind a proxy.")] = False,
) -> None:
    """Serve the pages and the gateway's contract until interrupted."""
    from ..cli import experiment
    from ..store import open_store_at
    from .following import following
    from .keys import KeyFile
    from .open import needs_key, serve_store

    place = store or _default_store()
    opened = open_store_at(place)
    keys = KeyFile(_keys_path(place)) if require_key or needs_key(host) else None
    with following([experiment(directory) for directory in directories or []], opened):
        serve_store(
            opened, host=host, port=port, keys=keys, said=lambda url: print(f"{url}  (store: {place})", flush=True)
        )


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    project: Annotated[list[str] | None, typer.Option(help="Id of a project it is for; without: all projects.")] = None,
    store: Store = None,
) -> None:
    """Make a key; it is shown once."""
    from .keys import add_key

    print(add_key(_keys_path(store or _default_store()), name, project or None))


@keys_app.command("list")
def list_keys(
    store: Store = None, json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False
) -> None:
    """The names of the keys and what they are for."""
    from .keys import known_keys

    found = known_keys(_keys_path(store or _default_store()))
    if json:
        from ..cli import print_json

        print_json(found)
        return
    print("\n".join(map(_line, found)) if found else "no keys")


@keys_app.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key.")], store: Store = None) -> None:
    """Forget a key; a running server refuses it at once."""
    from .keys import remove_key

    remove_key(_keys_path(store or _default_store()), name)
    print(f"revoked: {name}", file=sys.stderr)


def _line(key: dict[str, Any]) -> str:
    made = datetime.fromtimestamp(key["created"], UTC).strftime("%Y-%m-%d") if key.get("created") else ""
    projects = ", ".join(key["projects"]) if key.get("projects") is not None else "all projects"
    return f"{key['name']:24} {made:12} {projects}"


def _default_store() -> str:
    from ..store.local import default_path

    return str(default_path())


def _keys_path(place: str) -> Path:
    """keys.json beside a store's file; beside the user's own file for a database."""
    from ..store.local import default_path

    return (default_path() if "://" in place else Path(place).expanduser()).parent / "keys.json"
