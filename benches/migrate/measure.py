"""Runs a command to its end, or to its death, and says what it took."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time

from processes import Failed, guard

# How often its memory is looked at, which ends with it.
LOOK = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Run:
    """What a command took, and what it said."""

    name: str
    code: int
    seconds: float
    cpu: float
    peak: int
    store_cpu: float
    out: str
    errors: str

    @property
    def events(self):
        """The lines that `--json` gives. One that was killed may have left half of the last."""
        whole, _, _ = self.out.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def done(self):
        return next(event for event in reversed(self.events) if event["event"] == "done")

    def count(self, what):
        """How many objects it counted under this, or under what begins so."""
        return sum(count["objects"] for name, count in self.done["counts"].items() if name.startswith(what))

    def notes(self, words):
        return any(event["event"] == "note" and words in event["message"] for event in self.events)

    def good(self):
        """This, if it ended well."""
        if self.code:
            raise Failed(f"{self.name}: status {self.code}\n{self.out[-3000:]}\n{self.errors[-3000:]}")
        return self


def run(command, environment, directory, store, kill_after=None):
    """`store`: the process whose time is counted beside. The command ends with this process, or after so many seconds."""
    command = list(map(str, command))
    out, errors = directory / "out", directory / "errors"
    before, begun = cpu_of(store), time.monotonic()
    with out.open("wb") as to_out, errors.open("wb") as to_errors:
        child = subprocess.Popen(
            command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_errors,
        )
    guarding = guard(child, directory)
    try:
        ended, usage, peak = until_ended(child, begun, kill_after)
    finally:
        guarding.kill()
        guarding.wait()
        guarding.stdin.close()
        if child.returncode is None:
            child.kill()
            child.wait()
    return Run(
        name=" ".join([pathlib.Path(command[0]).name, *command[1:]]), code=child.returncode, seconds=ended - begun,
        cpu=usage.ru_utime + usage.ru_stime, peak=peak, store_cpu=cpu_of(store) - before,
        out=out.read_text(errors="replace"), errors=errors.read_text(errors="replace"),
    )


def until_ended(child, begun, kill_after):
    """When it ended, what it used, and the most memory that it had."""
    peak = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        now = time.monotonic()
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return now, usage, peak
        peak = max(peak, most_memory(child.pid))
        left = LOOK if kill_after is None else begun + kill_after - now
        if left <= 0:
            # Popen's own would look first whether it has ended, and take what `wait4` tells.
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(min(LOOK, max(left, 0.001)))


def most_memory(pid):
    """VmHWM: what `wait4` tells would count this process's own memory, which the child was for a moment."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) << 10


def cpu_of(pid):
    """Seconds, of all its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
