"""A dask cluster on this machine, of processes of its own: to test and to measure on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BRIDGED = "10.77.5"  # the network of a cluster whose workers have networks of their own


class LocalCluster:
    """A scheduler and workers, on loopback; or workers in network namespaces of their own, behind a bridge."""

    def __init__(self, folder, bridge=""):
        self.folder, self.workers, self.port, self.bridge = Path(folder), [], 0, bridge
        self.host = f"{BRIDGED}.1" if bridge else "127.0.0.1"
        if bridge:
            ip("link", "add", bridge, "type", "bridge")
            ip("addr", "add", f"{self.host}/24", "dev", bridge)
            ip("link", "set", bridge, "up")
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
        self.scheduler = self.start_scheduler()

    @property
    def address(self):
        return f"tcp://{self.host}:{self.port}"

    def start_scheduler(self):
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        command = ["-m", "dask", "scheduler", "--host", self.host, "--port", str(self.port), "--no-dashboard"]
        process = self._start("scheduler", [*command, "--scheduler-file", str(file)])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                self.port = int(json.loads(file.read_text())["address"].rpartition(":")[2])
                return process
            time.sleep(0.05)
        raise RuntimeError((self.folder / "scheduler.log").read_text())

    def add_worker(self, *options, **env):
        number = len(self.workers)
        name = f"worker{number}"
        command = ["-m", "dask", "worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard"]
        command += ["--local-directory", str(self.folder), *options]
        self.workers.append(self._start(name, command, self._namespace(number), **env))
        return self.workers[-1]

    def _namespace(self, number):
        """Make a network for a worker; return the command that runs a program in it."""
        if not self.bridge:
            return []
        name, outer, inner = (f"{self.bridge}{letter}{number}" for letter in "nab")
        ip("netns", "add", name)
        ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        ip("link", "set", inner, "netns", name)
        ip("link", "set", outer, "master", self.bridge, "up")
        ip("-n", name, "addr", "add", f"{BRIDGED}.{10 + number}/24", "dev", inner)
        ip("-n", name, "link", "set", inner, "up")
        ip("-n", name, "link", "set", "lo", "up")
        return ["ip", "netns", "exec", name]

    def cut(self, number):
        """Cut the cable of a worker."""
        ip("link", "set", f"{self.bridge}a{number}", "down")

    def _start(self, name, command, inside=(), **env):
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [*inside, sys.executable, *command],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.env | env,
                start_new_session=True,
            )

    def close(self):
        for process in [*self.workers, self.scheduler]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for number in range(len(self.workers) if self.bridge else 0):
            ip("netns", "del", f"{self.bridge}n{number}")
        if self.bridge:
            ip("link", "del", self.bridge)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def can_have_networks():
    try:
        ip("netns", "add", "sift-try")
        ip("netns", "del", "sift-try")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
