"""This machine: what rows call it, and what a fair run needs of it."""
import concurrent.futures
import contextlib
import ctypes
import mmap
import os
import pathlib
import platform
import random
import re
import time

from rivals import PeersError

PROBE_BYTES = 648 * 4096  # 2.65 MB, about an expert of Qwen3-30B-A3B
PROBE_DEPTH = 8
LARGE_PAGE = 2 << 20
DROP_CACHES = "/proc/sys/vm/drop_caches"


# ------------------------------------------------------------------------- name
def fact(cpuinfo, *names):
    for name in names:
        found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def simd_level(cpuinfo):
    """The most that kernels for 4-bit weights can make use of."""
    flags = set(fact(cpuinfo, "flags", "Features").split())
    for level, needed in (("AVX-512 VNNI", {"avx512bw", "avx512_vnni"}), ("AVX-512", {"avx512bw"}),
                          ("AVX2 VNNI", {"avx2", "avx_vnni"}), ("AVX2", {"avx2"}),
                          ("NEON i8mm", {"asimd", "i8mm"}), ("NEON dot", {"asimd", "asimddp"}), ("NEON", {"asimd"})):
        if needed <= flags:
            return level
    return "no SIMD known"


def cores():
    return len(os.sched_getaffinity(0))


def describe(cpuinfo, count):
    model = fact(cpuinfo, "model name") or platform.machine()
    model = re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|\bProcessor\b|@.*", " ", model)
    return f"{' '.join(model.split())}, {simd_level(cpuinfo)}, {count} core{'s' * (count > 1)}"


def this_machine():
    return describe(pathlib.Path("/proc/cpuinfo").read_text(), cores())


def file_name(machine):
    return re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")


# ------------------------------------------------------------------- preparation
def need_root(why):
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise PeersError(f"{why} needs root on Linux: run it with sudo")


def drop_caches():
    os.sync()
    with open(DROP_CACHES, "w", encoding="ascii") as file:
        file.write("3")


def read_ahead_file(path, root="/sys"):
    """Where the read-ahead of the device that holds `path` is set."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    block = pathlib.Path(root, "dev/block", number).resolve()
    # A partition has no queue of its own; a file system over several has no block device.
    places = (block / "queue/read_ahead_kb", block.parent / "queue/read_ahead_kb",
              pathlib.Path(root, "class/bdi", number, "read_ahead_kb"))
    for place in places:
        if place.is_file():
            return place
    raise PeersError(f"{path}: its device {number} has no read-ahead to set")


@contextlib.contextmanager
def read_ahead(path, kilobytes, root="/sys"):
    """Sets the device's read-ahead for the time of a `with`; 0 leaves it."""
    if not kilobytes:
        yield
        return
    place = read_ahead_file(path, root)
    before = place.read_text()
    try:
        place.write_text(str(kilobytes))
        yield
    finally:
        place.write_text(before)


# ------------------------------------------------------------------------- probe
def read_at(descriptor, offset, buffer):
    done = os.preadv(descriptor, [buffer], offset)
    if done != len(buffer):
        raise OSError(f"read {done} of {len(buffer)} bytes")
    return done


def probe_buffer():
    """On large pages, as the programs' own: a device may be given a few of them
    in less than half the time that many small ones take."""
    memory = mmap.mmap(-1, PROBE_BYTES + 2 * LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # of a kernel without
            memory.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % LARGE_PAGE
    return memoryview(memory)[start : start + PROBE_BYTES]


def read_until(descriptor, size, deadline):
    draw, done, buffer = random.Random(), 0, probe_buffer()
    while time.monotonic() < deadline:
        offset = draw.randrange((size - PROBE_BYTES) // 4096 + 1) * 4096
        done += read_at(descriptor, offset, buffer)
    return done


def busy_processors(seconds=0.5, stat="/proc/stat"):
    """How many processors others keep busy just now. Not the load average, which
    remembers the run before."""
    def busy():
        return sum(int(ticks) for at, ticks in enumerate(pathlib.Path(stat).read_text().split()[1:9]) if at not in (3, 4))

    before, start = busy(), time.monotonic()
    time.sleep(seconds)
    return (busy() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - start)


def disk_speed(path, seconds=1.0):
    """GB/s of random reads of PROBE_BYTES around the page cache, PROBE_DEPTH at a
    time; None where the file system or the file does not allow it. In other places
    each time: what a cache below the device keeps is not read again."""
    size = os.path.getsize(path)
    if size < PROBE_BYTES or not hasattr(os, "O_DIRECT"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(PROBE_DEPTH) as pool:
            readers = [pool.submit(read_until, descriptor, size, start + seconds) for _ in range(PROBE_DEPTH)]
            done = sum(reader.result() for reader in readers)
        return done / (time.monotonic() - start) / 1e9
    except OSError:
        return None
    finally:
        os.close(descriptor)
