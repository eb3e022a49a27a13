# SPDX-License-Identifier: MIT
"""Kernels and initial file systems for the guests: Debian's own packages, nothing built."""

import pathlib
import re
import stat
import subprocess
from typing import NamedTuple

UML = "/usr/bin/linux.uml"
BUSYBOX = "/bin/busybox"
DYNAMIC_LOADER = b"/ld-linux"
APPLETS = ["sh", "mount", "umount", "mkdir", "dd", "awk", "stat", "uname", "insmod", "sleep"]
META_PACKAGE = "linux-image-cloud-amd64"
INIT = pathlib.Path(__file__).with_name("init")

# In the order in which they need each other; those that a kernel has built in are no files.
MODULES = [
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_balloon"
]


class Missing(Exception):
    """Something has to be installed first; the text says what."""


class Image(NamedTuple):
    kernel: pathlib.Path
    initramfs: pathlib.Path


def cloud_image(cache):
    """Debian's kernel for virtual machines. Its package is unpacked into `cache`, not installed, so that the
    host's own boot is not touched."""
    kernel = _newest(cache.glob("linux/boot/vmlinuz-*"))
    if kernel is None:
        _unpack_cloud_kernel(cache)
        kernel = _newest(cache.glob("linux/boot/vmlinuz-*"))
    if kernel is None:
        raise Missing(f"the package of {META_PACKAGE} has no kernel")
    version = kernel.name.removeprefix("vmlinuz-")
    modules = cache / "linux/lib/modules" / version
    return Image(kernel, _make_initramfs(cache / "cloud.cpio", modules))


def uml_image(cache):
    modules = _newest(pathlib.Path("/usr/lib/uml/modules").glob("*"))
    if modules is None:
        raise Missing("user-mode-linux has no modules: apt-get install user-mode-linux")
    return Image(pathlib.Path(UML), _make_initramfs(cache / "uml.cpio", modules))


def _newest(paths):
    def version(path):
        return [int(number) for number in re.findall(r"\d+", path.name)]

    return max(paths, key=version, default=None)


def _unpack_cloud_kernel(cache):
    depends = subprocess.run(["apt-cache", "depends", "--important", META_PACKAGE],
                             capture_output=True, text=True, check=False)
    found = re.search(r"Depends: (linux-image-\S+)", depends.stdout)
    if found is None:
        raise Missing(f"apt does not know {META_PACKAGE}: apt-get update")
    package = found.group(1)
    cache.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(["apt-get", "download", "-q", package], cwd=cache, capture_output=True,
                             text=True, check=False)
    archive = _newest(cache.glob(f"{package}_*.deb"))
    if fetched.returncode != 0 or archive is None:
        raise Missing(f"apt-get download {package}: {fetched.stderr.strip()}")
    subprocess.run(["dpkg-deb", "--extract", archive, cache / "linux"], check=True)
    archive.unlink()


def _make_initramfs(path, modules):
    busybox = pathlib.Path(BUSYBOX)
    if not busybox.exists() or DYNAMIC_LOADER in busybox.read_bytes():
        raise Missing("a busybox without libraries is missing: apt-get install busybox-static")
    archive = Cpio()
    for folder in ["bin", "dev", "modules", "proc"]:
        archive.add(folder, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("dev/zero", stat.S_IFCHR | 0o666, device=(1, 5))
    archive.add("init", stat.S_IFREG | 0o755, INIT.read_bytes())
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for applet in APPLETS:
        archive.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for number, name in enumerate(MODULES):
        for module in sorted(modules.rglob(f"{name}.ko")):
            archive.add(f"modules/{number}-{module.name}", stat.S_IFREG | 0o644, module.read_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive.finished())
    return path


class Cpio:
    """An archive in the "newc" format of initial file systems, which may hold devices without being root."""

    def __init__(self):
        self._bytes = bytearray()
        self._entries = 0

    def add(self, name, mode, content=b"", device=(0, 0)):
        self._entries += 1
        encoded = name.encode() + b"\0"
        fields = [self._entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0]
        self._bytes += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._pad()
        self._bytes += content
        self._pad()

    def finished(self):
        self.add("TRAILER!!!", 0)
        return bytes(self._bytes)

    def _pad(self):
        self._bytes += bytes(-len(self._bytes) % 4)
