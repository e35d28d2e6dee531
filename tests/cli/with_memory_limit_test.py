"""scripts/with_memory_limit: real runs where a cgroup can be made, and the
choice of the place against described machines of both cgroup versions."""

import errno
import importlib.machinery
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

SOURCE = os.environ.get(
    "MLX_FLASH_SOURCE_DIR",
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
)
SCRIPT = os.path.join(SOURCE, "scripts", "with_memory_limit")
PYTHON = sys.executable


def load_script():
    loader = importlib.machinery.SourceFileLoader("with_memory_limit", SCRIPT)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


script = load_script()


def limited(limit_bytes, *command):
    result = subprocess.run(
        [SCRIPT, str(limit_bytes), *command],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if result.returncode == 77:
        raise unittest.SkipTest(result.stderr.strip())
    return result


def report(result):
    line = result.stderr.strip().splitlines()[-1]
    match = re.fullmatch(
        r"memory limit: peak=(\d+|unknown) limit=(\d+) oom_kills=(\d+)", line
    )
    if match is None:
        raise AssertionError(f"no report in {result.stderr!r}")
    peak, limit, kills = match.groups()
    return None if peak == "unknown" else int(peak), int(limit), int(kills)


class RealRuns(unittest.TestCase):
    def test_a_command_within_its_limit_runs(self):
        result = limited(
            64_000_000, PYTHON, "-c", "x = bytearray(20_000_000); print(len(x))"
        )
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, "20000000\n")
        peak, limit, kills = report(result)
        self.assertEqual((limit, kills), (64_000_000, 0))
        if peak is not None:
            self.assertGreater(peak, 20_000_000)
            self.assertLessEqual(peak, 64_000_000)

    def test_a_command_beyond_its_limit_is_killed(self):
        result = limited(64_000_000, PYTHON, "-c", "bytearray(200_000_000)")
        self.assertEqual(result.returncode, 137)
        self.assertGreaterEqual(report(result)[2], 1)

    def test_the_exit_code_is_the_commands(self):
        self.assertEqual(limited(64_000_000, "sh", "-c", "exit 5").returncode, 5)
        self.assertEqual(limited(64_000_000, "/nonexistent").returncode, 127)

    def test_a_signal_reaches_the_command_and_nothing_stays_behind(self):
        child = subprocess.Popen(
            [SCRIPT, "64000000", "sh", "-c", "echo ready; exec sleep 60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if child.stdout.readline() != "ready\n":
            child.communicate(timeout=60)
            self.assertEqual(child.returncode, 77)
            self.skipTest("no cgroup")
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 128 + signal.SIGTERM)
        self.assertNotIn("busy", errors)
        for folder, _, _ in os.walk("/sys/fs/cgroup"):
            self.assertNotIn(f"mlx-flash-{child.pid}", folder)

    def test_what_the_command_left_running_is_ended(self):
        # The marker is held open by the process that stays behind.
        with tempfile.TemporaryDirectory() as folder:
            marker = os.path.join(folder, "pid")
            limited(
                64_000_000,
                "sh",
                "-c",
                f"sleep 60 >/dev/null 2>&1 & echo $! >{marker}",
            )
            with open(marker, encoding="utf-8") as file:
                process = int(file.read())
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and self.runs(process):
                time.sleep(0.01)
            self.assertFalse(self.runs(process))

    @staticmethod
    def runs(process):
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def test_wrong_use_is_refused(self):
        for arguments in ([], ["1000"], ["1MB", "true"], ["-5", "true"]):
            result = subprocess.run(
                [SCRIPT, *arguments], capture_output=True, text=True
            )
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")


class Machine:
    """A described machine: a root folder with /proc files and cgroups."""

    def __init__(self, folder, own, mountinfo):
        self.root = folder
        self.busy = set()  # folders that hold processes and refuse +memory
        self.put("proc/self/cgroup", own)
        self.put("proc/self/mountinfo", mountinfo)

    def put(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def v2_folder(self, path, shared="", processes=""):
        self.put(f"{path}/cgroup.controllers", "cpu memory")
        self.put(f"{path}/cgroup.subtree_control", shared)
        self.put(f"{path}/cgroup.procs", processes)
        if "memory" not in shared and processes:
            self.busy.add(os.path.join(self.root, path))

    def make(self):
        """The place that was chosen and the cgroup, with writes imitated."""

        def write(path, text):
            folder, name = os.path.split(path)
            if name == "cgroup.subtree_control":
                if str(text) == "+memory" and folder in self.busy:
                    raise OSError(errno.EBUSY, "Device or resource busy", path)
                with open(path, "w", encoding="utf-8") as file:
                    file.write("memory" if str(text) == "+memory" else "")
            elif name == "cgroup.procs":
                self.move(folder, str(text))

        real_rmdir = os.rmdir

        def rmdir(folder):
            for name in os.listdir(folder):
                os.remove(os.path.join(folder, name))
            real_rmdir(folder)

        self.patches = [
            mock.patch.object(script, "write", write),
            mock.patch.object(script.os, "rmdir", rmdir),
        ]
        for patch in self.patches:
            patch.start()
        cgroup = script.make_cgroup(self.root)
        parent = os.path.dirname(cgroup.folder)
        return os.path.relpath(parent, self.root), cgroup

    def stop(self):
        for patch in getattr(self, "patches", []):
            patch.stop()

    def move(self, target, process):
        for folder, _, names in os.walk(os.path.join(self.root, "sys")):
            if "cgroup.procs" in names and folder != target:
                path = os.path.join(folder, "cgroup.procs")
                left = [p for p in script.words(path) if p != process]
                with open(path, "w", encoding="utf-8") as file:
                    file.write(" ".join(left))
                if not left:
                    self.busy.discard(folder)
        with open(
            os.path.join(target, "cgroup.procs"), "a", encoding="utf-8"
        ) as file:
            file.write(f" {process}")

    def processes(self, path):
        return script.words(os.path.join(self.root, path, "cgroup.procs"))


V1_MOUNTS = (
    "30 20 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "31 30 0:27 {mounted} /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n"
    "32 30 0:28 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
V2_MOUNTS = "30 20 0:26 {mounted} /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
ME = str(os.getpid())


class Places(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def machine(self, own, mountinfo, mounted="/"):
        machine = Machine(self.folder, own, mountinfo.format(mounted=mounted))
        self.addCleanup(machine.stop)
        return machine

    def test_v1_below_the_own_cgroup(self):
        machine = self.machine("4:memory:/a/b\n1:cpu:/c\n0::/\n", V1_MOUNTS)
        os.makedirs(f"{self.folder}/sys/fs/cgroup/memory/a/b")
        place, cgroup = machine.make()
        self.assertEqual(place, "sys/fs/cgroup/memory/a/b")
        self.assertIsInstance(cgroup, script.CgroupV1)

    def test_v1_below_the_mount_when_the_own_cgroup_is_not_visible(self):
        machine = self.machine("4:memory:/a/b\n", V1_MOUNTS)
        os.makedirs(f"{self.folder}/sys/fs/cgroup/memory")
        self.assertEqual(machine.make()[0], "sys/fs/cgroup/memory")

    def test_v1_in_a_container_that_sees_its_part_of_the_tree(self):
        machine = self.machine(
            "4:memory:/docker/abc/x\n", V1_MOUNTS, mounted="/docker/abc"
        )
        os.makedirs(f"{self.folder}/sys/fs/cgroup/memory/x")
        self.assertEqual(machine.make()[0], "sys/fs/cgroup/memory/x")

    def test_v2_below_the_own_cgroup_when_it_shares_out_memory(self):
        machine = self.machine("0::/a\n", V2_MOUNTS)
        machine.v2_folder("sys/fs/cgroup", shared="memory")
        machine.v2_folder("sys/fs/cgroup/a", shared="cpu memory")
        place, cgroup = machine.make()
        self.assertEqual(place, "sys/fs/cgroup/a")
        self.assertIsInstance(cgroup, script.CgroupV2)

    def test_v2_alone_it_steps_aside_and_back(self):
        machine = self.machine("0::/a\n", V2_MOUNTS)
        machine.v2_folder("sys/fs/cgroup", shared="memory")
        machine.v2_folder("sys/fs/cgroup/a", processes=ME)
        place, cgroup = machine.make()
        self.assertEqual(place, "sys/fs/cgroup/a")
        self.assertEqual(machine.processes("sys/fs/cgroup/a"), [])
        cgroup.remove()
        self.assertEqual(machine.processes("sys/fs/cgroup/a"), [ME])
        shared = f"{self.folder}/sys/fs/cgroup/a/cgroup.subtree_control"
        self.assertEqual(script.words(shared), [])
        folders = [e.name for e in os.scandir(f"{self.folder}/sys/fs/cgroup/a") if e.is_dir()]
        self.assertEqual(folders, [])

    def test_v2_in_company_it_goes_outwards_first(self):
        machine = self.machine("0::/a/b\n", V2_MOUNTS)
        machine.v2_folder("sys/fs/cgroup", shared="memory")
        machine.v2_folder("sys/fs/cgroup/a", shared="memory")
        machine.v2_folder("sys/fs/cgroup/a/b", processes=f"1 {ME}")
        self.assertEqual(machine.make()[0], "sys/fs/cgroup/a")
        self.assertEqual(machine.processes("sys/fs/cgroup/a/b"), ["1", ME])

    def test_v2_in_a_container_all_step_aside_and_back(self):
        machine = self.machine("0::/\n", V2_MOUNTS)
        machine.v2_folder("sys/fs/cgroup", processes=f"1 {ME}")
        place, cgroup = machine.make()
        self.assertEqual(place, "sys/fs/cgroup")
        self.assertEqual(machine.processes("sys/fs/cgroup"), [])
        cgroup.remove()
        self.assertEqual(machine.processes("sys/fs/cgroup"), ["1", ME])

    def test_without_a_memory_controller_nothing_is_moved(self):
        machine = self.machine("0::/\n", V2_MOUNTS)
        machine.v2_folder("sys/fs/cgroup", processes=f"1 {ME}")
        machine.put("sys/fs/cgroup/cgroup.controllers", "cpu")
        with self.assertRaisesRegex(script.NoCgroup, "no memory controller"):
            machine.make()
        self.assertEqual(machine.processes("sys/fs/cgroup"), ["1", ME])

    def test_without_cgroups_there_is_a_reason(self):
        for own, mountinfo in (("", ""), ("0::/\n", ""), ("4:memory:/\n", "")):
            with self.assertRaises(script.NoCgroup) as caught:
                self.machine(own, mountinfo).make()
            self.assertTrue(str(caught.exception))


class Limits(unittest.TestCase):
    def test_v1_limits_memory_and_swap(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("limit_in_bytes", "memsw.limit_in_bytes", "swappiness"):
                open(f"{folder}/memory.{name}", "w").close()
            script.CgroupV1(folder).limit(12345)
            self.assertEqual(script.read(f"{folder}/memory.limit_in_bytes"), "12345")
            self.assertEqual(
                script.read(f"{folder}/memory.memsw.limit_in_bytes"), "12345"
            )
            self.assertEqual(script.read(f"{folder}/memory.swappiness"), "0")

    def test_v2_limits_memory_and_turns_swap_off(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("max", "swap.max"):
                open(f"{folder}/memory.{name}", "w").close()
            with open(f"{folder}/memory.events", "w") as file:
                file.write("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
            cgroup = script.CgroupV2(folder)
            cgroup.limit(12345)
            self.assertEqual(script.read(f"{folder}/memory.max"), "12345")
            self.assertEqual(script.read(f"{folder}/memory.swap.max"), "0")
            self.assertEqual(cgroup.oom_kills(), "2")
            self.assertEqual(cgroup.peak(), "unknown")
            with open(f"{folder}/memory.peak", "w") as file:
                file.write("777\n")
            self.assertEqual(cgroup.peak(), "777")


if __name__ == "__main__":
    unittest.main()
