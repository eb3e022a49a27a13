# SPDX-License-Identifier: MIT
"""What the host's kernel says of a process: the time it took, the memory it holds, the calls it makes."""

import os
import pathlib
import re
import signal
import subprocess
from typing import NamedTuple

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
DISCARDING_CALLS = "madvise,process_madvise,fallocate"
ATTACH_SECONDS = 20
DETACH_SECONDS = 60


class CpuTime(NamedTuple):
    """Seconds of all threads of a process, those that have ended too."""

    user: float
    kernel: float

    def since(self, before):
        return CpuTime(self.user - before.user, self.kernel - before.kernel)


def cpu_time(pid):
    return parse_stat(pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))


def parse_stat(text):
    # The name of the program, in parentheses, may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    user_ticks, kernel_ticks = int(fields[11]), int(fields[12])
    return CpuTime(user_ticks / TICKS_A_SECOND, kernel_ticks / TICKS_A_SECOND)


def anonymous_bytes(pid):
    """Anonymous memory of a process that is really there."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE).group(1)) * 1024


def file_bytes(pid, name):
    """What is really there of the memory file that a process has open, whose path holds `name`."""
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if name in os.readlink(descriptor):
                return descriptor.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # closed meanwhile
    raise FileNotFoundError(f"process {pid} has no open file {name}")


class NotCounted(Exception):
    """Why the calls of a process could not be counted."""


class CallCount:
    """Counts calls that discard memory, of all threads of a process, with strace, which slows them down."""

    def __init__(self, pid, folder):
        self._summary = pathlib.Path(folder) / "strace.txt"
        self._strace = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,errors,name", "-e", f"trace={DISCARDING_CALLS}",
             "-o", self._summary, "-p", str(pid)],
            stderr=subprocess.PIPE, text=True)
        said = self._strace.stderr.readline()
        if "attached" not in said:
            self._strace.wait(ATTACH_SECONDS)
            raise NotCounted(said.strip())

    def finish(self):
        """Calls by name."""
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=DETACH_SECONDS)
        return parse_strace(self._summary.read_text(encoding="utf-8"))


def parse_strace(text):
    """The names and calls in a summary that strace was asked to give as "calls,errors,name"."""
    rows = re.findall(r"^\s*(\d+)(?:\s+\d+)?\s+([a-z_]\w*)\s*$", text, re.MULTILINE)
    return {name: int(calls) for calls, name in rows if name != "total"}
