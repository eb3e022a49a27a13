#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that bench/peers reads the kernel's and strace's words, makes archives, speaks QMP and sums up right."""

import json
import pathlib
import socket
import sys
import tempfile
import threading
import unittest

PEERS = pathlib.Path(__file__).resolve().parents[2] / "bench/peers"
sys.path.insert(0, str(PEERS))
import guest_image  # noqa: E402  (found through the line above)
import processes  # noqa: E402
import qmp  # noqa: E402
import report  # noqa: E402

TICKS = processes.TICKS_A_SECOND
GREETING = {"QMP": {"version": {}, "capabilities": []}}
STRACE_SUMMARY = """\
    calls    errors syscall
--------- --------- ----------------
   131072           fallocate
        7         2 process_madvise
--------- --------- ----------------
   131079         2 total
"""


class ProcessesTest(unittest.TestCase):
    def test_times_are_found_behind_a_name_with_spaces_and_parentheses(self):
        stat = f"42 (CPU 0) (x) S {' '.join(['9'] * 10)} {3 * TICKS} {5 * TICKS} 9 9"

        self.assertEqual(processes.parse_stat(stat), processes.CpuTime(user=3.0, kernel=5.0))

    def test_times_of_this_process_are_plausible(self):
        time = processes.cpu_time("self")

        self.assertGreaterEqual(time.user, 0)
        self.assertLess(time.user + time.kernel, 3600)

    def test_memory_file_counts_what_was_written_to(self):
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            file.truncate(1 << 20)
            file.write(b"x" * 8192)
            file.flush()

            self.assertEqual(processes.file_bytes("self", file.name), 8192)

    def test_memory_file_that_is_not_open_is_an_error(self):
        with self.assertRaises(FileNotFoundError):
            processes.file_bytes("self", "/dev/shm/nobody-has-this")

    def test_calls_are_read_with_and_without_errors(self):
        self.assertEqual(processes.parse_strace(STRACE_SUMMARY), {"fallocate": 131072, "process_madvise": 7})

    def test_no_calls_are_no_rows(self):
        self.assertEqual(processes.parse_strace(""), {})


class CpioTest(unittest.TestCase):
    def test_entries_start_at_multiples_of_four(self):
        archive = guest_image.Cpio()
        archive.add("a", 0o100644, b"odd")
        archive.add("bc", 0o100644, b"")

        content = archive.finished()

        starts = [at for at in range(len(content)) if content.startswith(b"070701", at)]
        self.assertEqual(len(starts), 3)
        self.assertTrue(all(at % 4 == 0 for at in starts))

    def test_device_and_content_are_where_the_format_has_them(self):
        archive = guest_image.Cpio()
        archive.add("dev/x", 0o020600, b"hi", device=(5, 1))

        content = archive.finished()

        fields = [int(content[6 + 8 * i:14 + 8 * i], 16) for i in range(13)]
        self.assertEqual(fields, [1, 0o020600, 0, 0, 1, 0, 2, 0, 0, 5, 1, 6, 0])
        self.assertEqual(content[110:116], b"dev/x\0")
        self.assertEqual(content[116:118], b"hi")


class QmpTest(unittest.TestCase):
    """Against a server that answers each line with the next of prepared lines."""

    def serve(self, *answers):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/control.sock"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()
        self.requests = []

        def answer():
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as lines:
                lines.write(json.dumps(GREETING) + "\r\n")
                lines.flush()
                for replies in answers:
                    self.requests.append(json.loads(lines.readline()))
                    lines.writelines(json.dumps(reply) + "\r\n" for reply in replies)
                    lines.flush()

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        control = qmp.Qmp(path)
        self.addCleanup(control.close)
        return control

    def test_events_before_an_answer_are_passed_over(self):
        event = {"event": "BALLOON_CHANGE", "data": {"actual": 1}}
        control = self.serve([{"return": {}}], [event, event, {"return": {"actual": 4096}}])

        self.assertEqual(control.guest_memory_bytes(), 4096)

    def test_target_is_asked_for_in_bytes_of_guest_memory(self):
        control = self.serve([{"return": {}}], [{"return": {}}])

        control.set_guest_memory(1 << 30)

        self.assertEqual(self.requests[1], {"execute": "balloon", "arguments": {"value": 1 << 30}})

    def test_refusal_is_an_error_with_its_reason(self):
        refusal = {"error": {"class": "DeviceNotActive", "desc": "no balloon"}}
        control = self.serve([{"return": {}}], [refusal])

        with self.assertRaisesRegex(qmp.QmpError, "no balloon"):
            control.guest_memory_bytes()

    def test_server_that_goes_away_is_an_error(self):
        control = self.serve([{"return": {}}], [])

        with self.assertRaisesRegex(qmp.QmpError, "closed"):
            control.guest_memory_bytes()


class ReportTest(unittest.TestCase):
    GUEST, INFLATED = 4 << 20, 1 << 20  # 256 pages

    def row(self, *kernel_seconds, guest=None, calls=None, not_counted=None):
        runs = [
            report.Run(device=processes.CpuTime(1.0, kernel), guest=guest, resident_bytes=self.GUEST,
                       freed_bytes=self.INFLATED, guest_says={"linux": "6.1", "filled": "3 MiB"})
            for kernel in kernel_seconds
        ]
        return report.Row(runs, calls, not_counted)

    def rows(self):
        return {
            "qemu/shared": self.row(0.9, 0.256, 0.3, calls={"fallocate": 256, "madvise": 256}),
            "qemu/private": self.row(0.1, 0.2, 0.15, calls={"madvise": 256}),
            "vballoon/shared": self.row(0.03, 0.06, 0.02, guest=processes.CpuTime(1.0, 0.512),
                                        not_counted="strace may not attach"),
        }

    def line(self, start):
        text = report.as_text(self.rows(), self.GUEST, self.INFLATED, {"host": "Linux"})
        return next(line for line in text.splitlines() if line.startswith(start))

    def test_median_least_and_most_of_the_kernel_time_are_a_page(self):
        self.assertEqual(self.line("qemu/shared").split()[1:4], ["1171.875", "1000.000", "3515.625"])

    def test_calls_of_all_kinds_are_summed_up(self):
        self.assertEqual(self.line("qemu/shared").split()[6:], ["512", "0.5", "1"])

    def test_process_of_the_guest_is_told_where_it_is_another(self):
        self.assertEqual(self.line("qemu/private").split()[5], "-")
        self.assertEqual(self.line("vballoon/shared").split()[5], "2000.000")

    def test_what_was_not_counted_has_its_reason(self):
        self.assertEqual(self.line("not counted"), "not counted, vballoon/shared: strace may not attach")

    def test_ratio_is_of_the_medians(self):
        self.assertEqual(self.line("vballoon/shared takes"),
                         "vballoon/shared takes 0.100 of the kernel time of qemu/shared")

    def test_json_has_every_run(self):
        facts = json.loads(report.as_json(self.rows(), self.GUEST, self.INFLATED, {"host": "Linux"}))

        ours = facts["rows"]["vballoon/shared"]
        self.assertEqual([run["device"]["kernel_seconds"] for run in ours["runs"]], [0.03, 0.06, 0.02])
        self.assertEqual(ours["kernel_us_per_page"], 117.1875)
        self.assertIsNone(ours["discard_calls"])


if __name__ == "__main__":
    unittest.main()
