# SPDX-License-Identifier: MIT
"""The systems that are put side by side: each boots Linux with a balloon that is controlled over QMP.

A peer is started by `with`, and killed at its end, whatever happened; after a failure it prints what was said
last. Its `device_pid` is the process that discards memory, its `guest_pid` the one that runs the guest.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import guest_image
import processes
import qmp

BOOT_SECONDS = 300
FILL_SECONDS = 300
QUIT_SECONDS = 20
KEPT_LINES = 15
MIB = 1 << 20

# Freshly allocated pages are not cleared in either guest: Debian's two kernels differ in that.
KERNEL_OPTIONS = "quiet panic=-1 init_on_alloc=0"


class PeerFailed(Exception):
    """A system did not do what was expected of it."""


class Peer:
    def __init__(self, image, guest_bytes, folder):
        self._image = image
        self._guest_bytes = guest_bytes
        self._folder = folder
        self._control_path = folder / "control.sock"
        self._started = []
        self._console = None
        self.control = None
        self.facts = {}  # what the guest said of itself

    def __enter__(self):
        try:
            self._start()
            self.control = qmp.Qmp(self._control_path)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, failure, *_):
        if failure is not None and issubclass(failure, Exception):
            print(self._last_words(), file=sys.stderr)
        if self.control is not None:
            self.control.close()
        for process in reversed(self._started):
            _kill(process)

    def wait_until_filled(self):
        """Waits until the guest has written to its memory and freed it again."""
        deadline = time.monotonic() + BOOT_SECONDS + FILL_SECONDS
        while (line := self._console.next_line(deadline)) != "ready":
            word, _, rest = line.partition(" ")
            if word == "failed":
                raise PeerFailed(f"the guest {line}")
            self.facts[word] = rest

    def _last_words(self):
        said = self._console.last_lines if self._console is not None else []
        return "\n".join(["the guest said last:", *said])

    def _run(self, command, **options):
        """Starts a process in a group of its own, so that all that it starts can be ended with it."""
        process = subprocess.Popen(command, start_new_session=True, cwd=self._folder, **options)
        self._started.append(process)
        return process

    def _run_guest(self, command, **options):
        process = self._run(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, **options)
        self._console = Console(process.stdout)
        return process.pid


class Qemu(Peer):
    """Under emulation (TCG) the balloon of QEMU runs on the thread of the virtual processor."""

    BACKEND = {
        "shared": "memory-backend-memfd,share=on",
        "private": "memory-backend-ram",
    }

    def __init__(self, memory, image, guest_bytes, folder):
        super().__init__(image, guest_bytes, folder)
        self._memory = memory

    def resident_bytes(self):
        if self._memory == "shared":
            return processes.file_bytes(self.guest_pid, "/memfd:")
        return processes.anonymous_bytes(self.guest_pid)

    def _start(self):
        backend = f"{self.BACKEND[self._memory]},id=ram,size={self._guest_bytes}"
        self.guest_pid = self.device_pid = self._run_guest([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35,memory-backend=ram", "-accel", "tcg", "-smp", "1",
            "-m", f"{self._guest_bytes // MIB}M", "-object", backend,
            "-device", "virtio-balloon-pci", "-serial", "stdio",
            "-qmp", f"unix:{self._control_path},server=on,wait=off",
            "-kernel", self._image.kernel, "-initrd", self._image.initramfs,
            "-append", f"console=ttyS0 {KERNEL_OPTIONS}"])


class Vballoon(Peer):
    """`vballoon serve` is a process of its own; Linux runs as a process too (user-mode-linux)."""

    # What QEMU offers by default. With free page reports the guest would give its memory back before it is asked.
    FEATURES = "stats-vq,page-poison,indirect-desc,event-idx"

    def __init__(self, command, image, guest_bytes, folder):
        super().__init__(image, guest_bytes, folder)
        self._command = command
        self._log_path = folder / "device.log"

    def resident_bytes(self):
        return processes.file_bytes(self.guest_pid, "/dev/shm/")

    def _start(self):
        device_path = self._folder / "device.sock"
        with open(self._log_path, "wb") as log:
            self.device_pid = self._run([
                self._command, "serve", "--socket", device_path, "--control", self._control_path,
                "--features", self.FEATURES], stdout=log, stderr=log).pid
        self._wait_for(device_path)
        # The guest's memory is a file there, which has to be on a file system in memory.
        memory = {**os.environ, "TMPDIR": "/dev/shm"}
        self.guest_pid = self._run_guest([
            self._image.kernel, f"mem={self._guest_bytes // MIB}M", f"initrd={self._image.initramfs}",
            f"uml_dir={self._folder}", "con=null", "con0=fd:0,fd:1",
            f"virtio_uml.device={device_path}:5", *KERNEL_OPTIONS.split()], env=memory)

    def _last_words(self):
        said = self._log_path.read_text(errors="replace").splitlines()[-KEPT_LINES:]
        return "\n".join([super()._last_words(), "the device said last:", *said])

    @staticmethod
    def _wait_for(path):
        deadline = time.monotonic() + QUIT_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise PeerFailed(f"no socket at {path}")
            time.sleep(0.02)


class Console:
    """What a guest prints. A thread reads it all the time, so that a guest never waits for us."""

    def __init__(self, stream):
        self._lines = queue.Queue()
        self.last_lines = []
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next_line(self, deadline):
        """The next line that the first process of the guest printed for us."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise PeerFailed("the guest takes too long") from None
            if line is None:
                raise PeerFailed("the guest ended")
            if line.startswith("guest: "):
                return line.removeprefix("guest: ")

    def _read(self, stream):
        for line in stream:
            text = line.decode(errors="replace").strip()
            self.last_lines = [*self.last_lines, text][-KEPT_LINES:]
            self._lines.put(text)
        self._lines.put(None)


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(QUIT_SECONDS)
