"""A real PostgreSQL for the tests: Debian's binaries, a directory and a port of its own, a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from .servers import free_port

PASSWORD = "a-secret-of-the-tests"
SUPERUSER = "evsys"


def binaries() -> Path | None:
    """Where initdb and pg_ctl are, the newest version; None without PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    if binaries() is None:
        return "no PostgreSQL: apt-get install postgresql"
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class Server:
    """A server on 127.0.0.1, run as the user postgres where the tests run as root."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self.folder = Path(tempfile.mkdtemp(prefix="evsys-pg-"))
        self.port = free_port()
        self._bin = found
        self._made = 0

    def start(self) -> Server:
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        (self.folder / "password").write_text(PASSWORD)
        os.chmod(self.folder / "password", 0o644)
        self._run("initdb", "-D", self.data, "-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
                  f"--pwfile={self.folder / 'password'}")  # fmt: skip
        self.up()
        return self

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def up(self) -> None:
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-l", str(self.folder / "log"), "-o", settings, "-w", "-t", "60", "start")

    def down(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        try:
            self.down()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def database(self) -> str:
        """The URL of a new, empty database; the password is not in it."""
        import psycopg

        self._made += 1
        name = f"db{self._made}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=SUPERUSER, password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *words: str) -> None:
        user = "postgres" if os.getuid() == 0 else None
        with (self.folder / "said").open("w") as said:  # no pipe: the server would keep it open
            done = subprocess.run(
                [str(self._bin / program), *words], cwd="/", user=user, group=user, extra_groups=[] if user else None,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120, check=False,
            )  # fmt: skip
        log = self.folder / "log"
        assert done.returncode == 0, (
            words,
            (self.folder / "said").read_text(),
            log.read_text() if log.exists() else "",
        )
