"""Servers on free loopback ports, which end with this process however that ends."""

import http.client
import os
import pathlib
import random
import socket
import subprocess
import threading
import time

# Below the ports that Linux gives to connections, of which the tests open thousands.
PORTS = range(10_240, 32_768)
PATIENCE = 60


class Failed(Exception):
    """Why a run can't go on, for a person."""


def tools():
    """Where tests/setup installs."""
    named = os.environ.get("S3VEIL_TOOLS")
    return pathlib.Path(named) if named else pathlib.Path.home() / ".cache/s3veil-tools"


def tool(name):
    path = tools() / "bin" / name
    if not path.exists():
        raise Failed(f"{path} is not there; run tests/setup")
    return path


def free_ports(count, run=0):
    """Ports that were free a moment ago, and the first of `run` neighbours if asked for: all held at once."""
    held, ports = [], []
    try:
        for length in [1] * count + [run] * bool(run):
            ports.append(_hold(length, held))
    finally:
        for one in held:
            one.close()
    return ports


def _hold(length, held):
    for _ in range(1000):
        first, taken = random.choice(PORTS[:-length]), []
        try:
            for port in range(first, first + length):
                taken.append(socket.socket())
                taken[-1].bind(("127.0.0.1", port))
        except OSError:
            for one in taken:
                one.close()
            continue
        held += taken
        return first
    raise Failed("no free port")


def guard(child, directory):
    """A shell that reads from a pipe which nobody writes to: the read ends when this process does, however that happens."""
    script = 'trap "" HUP INT TERM; read -r _; kill -9 "$1"; rm -rf -- "$2"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", str(child.pid), str(directory)], stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def finished(command, environment, directory, seconds):
    """Runs a command to its end; it ends with this process. What it said, and nothing if it took too long."""
    with (directory / "said").open("w+b") as said:
        child = subprocess.Popen(
            list(map(str, command)), env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )
        guarding = guard(child, directory)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise Failed(f"{command[0]} took longer than {seconds} s") from None
        finally:
            guarding.kill()
            guarding.wait()
            guarding.stdin.close()
        said.seek(0)
        return said.read().decode(errors="replace")[-6000:]


class Server:
    """A process with a guard: a shell that kills it when this process is gone. A lasting one is started again if it ends."""

    def __init__(self, command, environment, directory, name, lasting=False):
        self.log = directory / f"{name}.log"
        self.name = name
        self.begun = list(map(str, command)), environment, directory
        self.stopping = threading.Event()
        self.restarts = 0
        self.lock = threading.Lock()
        self._spawn()
        if lasting:
            threading.Thread(target=self._last, daemon=True).start()

    def _spawn(self):
        command, environment, directory = self.begun
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self.guard = guard(self.child, directory)

    def _last(self):
        while not self.stopping.wait(0.2):
            with self.lock:
                if not self.stopping.is_set() and self.ended():
                    self._end()
                    self.restarts += 1
                    self._spawn()

    def answers(self, port, path="/", status=None):
        """Whether it answers over HTTP, with this status if one is named."""
        got = self._get(port, path)
        return got is not None and status in (None, got[0])

    def page(self, port, path):
        """What it answers, or nothing."""
        got = self._get(port, path)
        return got and got[1]

    @staticmethod
    def _get(port, path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(1 << 20).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def ended(self):
        return self.child.poll() is not None

    def said(self):
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self):
        self.stopping.set()
        with self.lock:
            self._end()

    def _end(self):
        # The guard first, while the child's number can't belong to another process.
        self.guard.kill()
        self.guard.wait()
        self.guard.stdin.close()
        self.child.kill()
        self.child.wait()


def until(true, otherwise, servers):
    """Waits for a condition, as long as the servers live."""
    begun = time.monotonic()
    while not true():
        for server in servers:
            if server.ended():
                raise Failed(f"{server.name} ended: {server.said()}")
        if time.monotonic() - begun > PATIENCE:
            raise Failed(f"{otherwise} after {PATIENCE} s: {servers[-1].said()}")
        time.sleep(0.05)
