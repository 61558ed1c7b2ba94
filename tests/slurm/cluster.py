"""A real SLURM of several nodes on this host, for tests: munge, slurmctld, one slurmd a node, and accounting if asked.

Needs root and the Debian packages slurm-wlm and munge (with accounting: slurmdbd and mariadb-server). Everything lives
in one new directory with its own ports, sockets and keys; nothing of the host is changed but names of the nodes in
/etc/hosts, which are taken out again. By hand: `python tests/slurm/cluster.py DIRECTORY [--accounting]`; Ctrl-C ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NODES = 4
CPUS = 8
GPUS = 2
HOSTS = Path("/etc/hosts")
HOSTS_MARK = "# evsys_hydra test cluster"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db", "mariadb")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing(accounting: bool) -> str | None:
    """Why a cluster cannot be started here; None if it can."""
    wanted = [*PROGRAMS, *(ACCOUNTING_PROGRAMS if accounting else ())]
    absent = [program for program in wanted if shutil.which(program, path=PATH) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurm-wlm slurmdbd munge mariadb-server)"
    return None if os.geteuid() == 0 else "a test cluster needs root"


@dataclass
class Cluster:
    """One cluster; `start` returns when its nodes are idle.

    Args:
        directory: where configuration, state, logs and sockets go.
        accounting: whether slurmdbd and its database run.
        max_array_size: indices of an array stay below it.
    """

    directory: Path
    accounting: bool = False
    max_array_size: int = 1001
    name: str = field(default_factory=lambda: f"ev{secrets.token_hex(3)}x")
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes, which no other cluster on this host has."""
        return [f"{self.name}{number}" for number in range(1, NODES + 1)]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every client of this cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return {**kept, "SLURM_CONF": str(self.directory / "slurm.conf"), "PATH": PATH}

    def start(self) -> Cluster:
        """Start every daemon in order and wait for the nodes.

        Raises:
            RuntimeError: a daemon did not come up; with the end of its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        self._ports = _free_ports(3 + NODES)
        try:
            self._write_configuration()
            self._name_nodes()
            self._start_munge()
            if self.accounting:
                self._start_database()
            self._run("slurmctld", "slurmctld", "-D", "-c")
            self.wait_for(lambda: self.call("scontrol", "ping").returncode == 0, "slurmctld")
            for node in self.nodes:
                self.start_node(node)
            self.wait_for(lambda: self.idle_nodes() == NODES, "the nodes")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every job and daemon of this cluster, and no other process."""
        if "slurmctld" in self.processes:
            self.call("scancel", "--user=root", timeout=10)
            with contextlib.suppress(RuntimeError):
                self.wait_for(lambda: not self.queue(), "the jobs' end", seconds=10)
        for node in self.nodes:
            self.kill_node(node)
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._end(name)
        self._unname_nodes()

    def stop_controller(self) -> None:
        """What an update of SLURM does: slurmctld saves its state and is gone; jobs run on."""
        self._end("slurmctld")

    def start_controller(self) -> None:
        """Start slurmctld again, with the state that it saved."""
        self._run("slurmctld", "slurmctld", "-D")
        self.wait_for(lambda: self.call("scontrol", "ping").returncode == 0, "slurmctld")

    def stop_database_daemon(self) -> None:
        self._end("slurmdbd")

    def start_database_daemon(self) -> None:
        self._run("slurmdbd", "slurmdbd", "-D")
        self.wait_for(lambda: self.call("sacctmgr", "-n", "show", "cluster").returncode == 0, "slurmdbd")

    def set_prolog(self, script: str | None) -> None:
        """Have the nodes run a script before each job (None: none), and take drained nodes back."""
        path, config = self.directory / "prolog", self.directory / "slurm.conf"
        lines = [line for line in config.read_text().splitlines() if not line.startswith("Prolog=")]
        if script is not None:
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            lines.insert(0, f"Prolog={path}")
        config.write_text("\n".join(lines) + "\n")
        self.call("scontrol", "reconfigure")
        self.call("scontrol", "update", f"NodeName={','.join(self.nodes)}", "State=RESUME")
        self.wait_for(lambda: self.idle_nodes() == NODES, "the nodes")

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node (again)."""
        self._run(f"slurmd-{node}", "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """What a power cut does: the node's slurmd, its steps' daemons and all their processes are gone at once."""
        process = self.processes.pop(f"slurmd-{node}", None)
        doomed = _daemons(self.directory / f"slurmd-{node}.log")
        doomed = [child for daemon in doomed for child in _descendants(daemon)] + doomed
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: a daemon must not tell of its child's death
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        if process is not None:
            process.kill()
            process.wait()

    def call(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a client of this cluster."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def queue(self, states: str = "") -> list[str]:
        """The lines of squeue: "<job> <state> <reason> <comment>"."""
        only = ["-t", states] if states else []
        return self.call("squeue", "-h", "-r", "-o", "%i %T %r %k", *only).stdout.splitlines()

    def idle_nodes(self) -> int:
        return self.call("sinfo", "-h", "-N", "-o", "%t", "-p", "main").stdout.split().count("idle")

    def job_state(self, job: str) -> str:
        """The state of a job as the controller remembers it, for example FAILED."""
        words = self.call("scontrol", "show", "job", "-o", job).stdout.split()
        return next((word.split("=", 1)[1] for word in words if word.startswith("JobState=")), "")

    def wait_for(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{self._log_tail(name)}" for name in dead or self.processes)
                raise RuntimeError(f"waited {seconds:.0f} s for {what}; ended: {dead or 'no daemon'}\n{logs}")
            time.sleep(0.1)

    def _end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _run(self, name: str, *command: str) -> None:
        log = (self.directory / f"{name}.out").open("ab")
        self.processes[name] = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        log.close()

    def _start_munge(self) -> None:
        key = self.directory / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = [f"--{name}-file={self.directory}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "munged", "--foreground", "--force", f"--socket={self.directory}/munge.socket", *files)
        self.wait_for((self.directory / "munge.socket").exists, "munged")

    def _start_database(self) -> None:
        data, sock = self.directory / "mysql", self.directory / "mysql.socket"
        install = ("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db")
        subprocess.run(
            [*install, "--auth-root-authentication-method=normal"],
            check=True,
            capture_output=True,
            env=self.environment,
        )
        self._run(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={sock}",
            f"--pid-file={self.directory}/mariadbd.pid",
            "--bind-address=127.0.0.1",
            f"--port={self._ports[1]}",
            "--innodb-lock-wait-timeout=900",
            "--innodb-buffer-pool-size=64M",
        )
        client = ("mariadb", "--no-defaults", f"--socket={sock}", "-uroot", "-e")
        self.wait_for(lambda: self.call(*client, "select 1").returncode == 0, "mariadbd")
        grant = "create user slurm@'%' identified by 'slurm'; grant all on *.* to slurm@'%'; create database slurm"
        assert self.call(*client, grant).returncode == 0
        self._run("slurmdbd", "slurmdbd", "-D")
        self.wait_for(lambda: self.call("sacctmgr", "-n", "show", "cluster").returncode == 0, "slurmdbd")
        self.call("sacctmgr", "-i", "add", "cluster", self.name)

    def _write_configuration(self) -> None:
        host = socket.gethostname().split(".")[0]
        where = self.directory
        storage = "accounting_storage/slurmdbd" if self.accounting else "accounting_storage/none"
        for name in ("state", "spool"):
            (where / name).mkdir(exist_ok=True)
        lines = [
            f"ClusterName={self.name}",
            f"SlurmctldHost={host}(127.0.0.1)",
            "SlurmUser=root",
            "SlurmdUser=root",
            f"SlurmctldPort={self._ports[0]}",
            f"StateSaveLocation={where}/state",
            f"SlurmdSpoolDir={where}/spool/%n",
            f"SlurmctldPidFile={where}/slurmctld.pid",
            f"SlurmdPidFile={where}/slurmd-%n.pid",
            f"SlurmctldLogFile={where}/slurmctld.log",
            f"SlurmdLogFile={where}/slurmd-%n.log",
            "AuthType=auth/munge",
            f"AuthInfo=cred_expire=5,socket={where}/munge.socket",
            "CredType=cred/munge",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/linux",
            "MpiDefault=none",
            "SwitchType=switch/none",
            "ReturnToService=2",
            "SlurmdParameters=config_overrides",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0,default_queue_depth=2000",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "JobRequeue=1",
            f"MaxArraySize={self.max_array_size}",
            "MaxJobCount=20000",
            "KillWait=5",
            "SlurmctldTimeout=30",
            "SlurmdTimeout=20",
            "OverTimeLimit=0",
            "InactiveLimit=0",
            f"AccountingStorageType={storage}",
            "GresTypes=gpu",
        ]
        if self.accounting:
            lines += ["AccountingStorageHost=127.0.0.1", f"AccountingStoragePort={self._ports[2]}"]
            lines += [f"AccountingStoragePass={where}/munge.socket"]
            dbd = where / "slurmdbd.conf"
            dbd.write_text(
                f"AuthType=auth/munge\nAuthInfo=socket={where}/munge.socket\nDbdHost=localhost\nDbdAddr=127.0.0.1\n"
                f"DbdPort={self._ports[2]}\nSlurmUser=root\nLogFile={where}/slurmdbd.log\nPidFile={where}/slurmdbd.pid\n"
                f"StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={self._ports[1]}\n"
                "StorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm\n"
            )
            dbd.chmod(0o600)
        lines += [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=8000"
            f" Gres=gpu:{GPUS}"
            for node, port in zip(self.nodes, self._ports[3:], strict=True)
        ]
        every = f"{self.name}[1-{NODES}]"
        lines += [
            f"PartitionName=main Nodes={every} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5",
            f"PartitionName=urgent Nodes={every} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
        ]
        (where / "slurm.conf").write_text("\n".join(lines) + "\n")
        for number in range(GPUS):
            os.mknod(where / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (where / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={where}/nvidia[0-{GPUS - 1}]\n")

    def _name_nodes(self) -> None:
        start = "" if HOSTS.read_text().endswith("\n") else "\n"
        with HOSTS.open("a") as file:
            file.write(f"{start}127.0.0.1 {' '.join(self.nodes)} {HOSTS_MARK} {self.name}\n")

    def _unname_nodes(self) -> None:
        lines = HOSTS.read_text().splitlines(keepends=True)
        mine = f"{HOSTS_MARK} {self.name}\n"
        if any(line.endswith(mine) for line in lines):
            HOSTS.write_text("".join(line for line in lines if not line.endswith(mine)))

    def _log_tail(self, name: str) -> str:
        tails = []
        for path in (self.directory / f"{name}.out", self.directory / f"{name}.log"):
            if path.exists():
                tails += path.read_text(errors="replace").splitlines()[-8:]
        return "\n".join(tails)


def die_with_parent() -> None:
    """In a daemon before it starts: it ends with the tests, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _daemons(log: Path) -> list[int]:
    """The slurmd and the slurmstepds that write this log: those of one node."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                if any(os.readlink(handle) == str(log) for handle in (directory / "fd").iterdir()):
                    found.append(int(directory.name))
    return found


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (directory / "stat").read_text().rsplit(")", 1)[1].split()[1]
                children.setdefault(int(parent), []).append(int(directory.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def main() -> None:
    cluster = Cluster(Path(sys.argv[1]).resolve(), accounting="--accounting" in sys.argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    cluster.start()
    print(
        f"started in {time.monotonic() - started:.1f} s; export SLURM_CONF={cluster.directory}/slurm.conf", flush=True
    )
    try:
        signal.pause()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
