# SPDX-License-Identifier: MIT
"""What was measured, as a table for people and as JSON for programs."""

import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess

import guest_image
import processes

PAGE_BYTES = 4096
BASELINES = ["qemu/shared", "qemu/private"]
OURS = "vballoon/shared"
MIB = 1 << 20

NOTES = """\
kernel us/page: time of the host's kernel in the process with the device, for each page of the balloon
cpu us/page: with the time of that process itself; in QEMU that has the emulation of the guest in it
guest us/page: time of the host's kernel in the guest's process, where the device has another
calls: madvise, process_madvise and fallocate, counted with strace in a run of its own"""


@dataclasses.dataclass
class Run:
    """One inflation."""

    device: processes.CpuTime
    guest: processes.CpuTime | None  # None where the device runs in the guest's process
    resident_bytes: int  # before
    freed_bytes: int
    guest_says: dict


@dataclasses.dataclass
class Row:
    """All inflations of one system."""

    runs: list[Run] = dataclasses.field(default_factory=list)
    calls: dict[str, int] | None = None
    not_counted: str | None = None

    def median(self, value):
        return statistics.median(value(run) for run in self.runs)

    def kernel_us_a_page(self, pages):
        return self.median(lambda run: run.device.kernel) * 1e6 / pages


def as_text(results, guest_bytes, inflate_bytes, machine):
    pages = inflate_bytes // PAGE_BYTES
    header = ["row", "kernel us/page", "least", "most", "cpu us/page", "guest us/page", "calls", "pages/call",
              "given back MiB"]
    table = [header] + [_cells(name, row, pages) for name, row in results.items()]
    runs = max(len(row.runs) for row in results.values())
    lines = [f"{inflate_bytes // MIB} of {guest_bytes // MIB} MiB inflated by Linux, medians of {runs}", ""]
    lines += _aligned(table)
    lines += ["", *_ratios(results, pages), "", NOTES]
    lines += [f"not counted, {name}: {row.not_counted}" for name, row in results.items() if row.not_counted]
    return "\n".join([*lines, "", *(f"{what}: {value}" for what, value in machine.items()),
                      *_guests(results)])


def as_json(results, guest_bytes, inflate_bytes, machine):
    pages = inflate_bytes // PAGE_BYTES
    rows = {
        name: {
            "kernel_us_per_page": round(row.kernel_us_a_page(pages), 4),
            "discard_calls": row.calls,
            "not_counted": row.not_counted,
            "runs": [_run_facts(run) for run in row.runs],
        }
        for name, row in results.items()
    }
    return json.dumps({"guest_memory_bytes": guest_bytes, "inflated_bytes": inflate_bytes, "pages": pages,
                       "rows": rows, "machine": machine}, indent=2)


def machine_facts(command):
    memory = pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")
    total_kib = int(re.search(r"^MemTotal:\s*(\d+)", memory, re.MULTILINE).group(1))
    huge_pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage")
    return {
        "machine": f"{os.cpu_count()} x {_processor()}, {total_kib / (1 << 20):.1f} GiB",
        "host": f"Linux {os.uname().release}",
        "transparent huge pages": f"{_chosen(huge_pages / 'enabled')}, shared memory "
                                  f"{_chosen(huge_pages / 'shmem_enabled')}",
        "qemu": _first_line(["qemu-system-x86_64", "--version"]),
        "user-mode-linux": _first_line([guest_image.UML, "--version"]),
        "vballoon": _first_line([str(command), "--version"]),
    }


def _cells(name, row, pages):
    def us(seconds):
        return f"{seconds * 1e6 / pages:.3f}"

    kernel = [run.device.kernel for run in row.runs]
    calls = sum(row.calls.values()) if row.calls is not None else None
    return [
        name, us(statistics.median(kernel)), us(min(kernel)), us(max(kernel)),
        us(row.median(lambda run: run.device.user + run.device.kernel)),
        us(row.median(lambda run: run.guest.kernel)) if row.runs[0].guest else "-",
        str(calls) if calls is not None else "-",
        f"{pages / calls:.1f}" if calls else "-",
        f"{row.median(lambda run: run.freed_bytes) / MIB:.0f}",
    ]


def _aligned(table):
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths)))
            for row in table]


def _ratios(results, pages):
    ours = results[OURS].kernel_us_a_page(pages)
    return [f"{OURS} takes {ours / theirs:.3f} of the kernel time of {name}"
            for name in BASELINES if (theirs := results[name].kernel_us_a_page(pages)) > 0]


def _guests(results):
    return [f"guest of {name}: Linux {row.runs[0].guest_says['linux']}, "
            f"{row.runs[0].guest_says['filled']} written to, "
            f"{row.runs[0].resident_bytes // MIB} MiB resident before"
            for name, row in results.items()]


def _run_facts(run):
    def seconds(time):
        return {"user_seconds": time.user, "kernel_seconds": time.kernel} if time is not None else None

    return {"device": seconds(run.device), "guest_process": seconds(run.guest),
            "resident_before_bytes": run.resident_bytes, "given_back_bytes": run.freed_bytes,
            "guest": run.guest_says}


def _processor():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else os.uname().machine


def _chosen(path):
    """The one of several choices that the kernel prints in brackets."""
    found = re.search(r"\[(\S+)\]", path.read_text(encoding="utf-8")) if path.exists() else None
    return found.group(1) if found else "unknown"


def _first_line(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
