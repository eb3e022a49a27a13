# SPDX-License-Identifier: MIT
"""The few QMP commands that set and read a balloon; QEMU and `vballoon serve` both speak them."""

import json
import socket
import time

CONNECT_SECONDS = 20
ANSWER_SECONDS = 60


class QmpError(Exception):
    """The other side refused a command, or went away."""


class Qmp:
    """A connection to the control socket at `path`, which may be about to be made."""

    def __init__(self, path):
        self._socket = _connect(path)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        if "QMP" not in self._read():
            raise QmpError("no greeting")
        self._execute("qmp_capabilities")

    def close(self):
        self._lines.close()
        self._socket.close()

    def guest_memory_bytes(self):
        """What the guest has left."""
        return self._execute("query-balloon")["actual"]

    def set_guest_memory(self, wanted_bytes):
        """What the guest shall have left; it has not done so yet on return."""
        self._execute("balloon", value=wanted_bytes)

    def _execute(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        reply = self._read()
        while "event" in reply:
            reply = self._read()
        if "return" not in reply:
            raise QmpError(f"{command}: {reply.get('error', reply)}")
        return reply["return"]

    def _read(self):
        line = self._lines.readline()
        if not line:
            raise QmpError("the control socket was closed")
        return json.loads(line)


def _connect(path):
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            if time.monotonic() > deadline:
                raise QmpError(f"nobody listens at {path}: {error}") from error
            time.sleep(0.05)
