"""One run: a process, in a memory cgroup where there is a limit, with the time at
which each line of its output came."""
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

from rivals import PeersError

LIMITER = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "with_memory_limit"
NO_CGROUP = 77
GRACE_SECONDS = 15  # for the limiter to remove its cgroup


@dataclasses.dataclass
class Finished:
    code: int
    lines: list  # of (seconds since the process was started, text)
    errors: str
    timed_out: bool
    out_of_memory: bool

    @property
    def output(self):
        return "".join(text for _, text in self.lines)

    def failure(self):
        """Why there is nothing to measure, or an empty string."""
        if self.timed_out:
            return "time limit"
        if self.out_of_memory:
            return "killed: out of memory"
        return f"exit code {self.code}" if self.code else ""


def limited(command, limit_bytes):
    return [str(LIMITER), str(limit_bytes), *command] if limit_bytes else list(command)


def was_out_of_memory(errors):
    found = re.search(r"^memory limit: .*oom_kills=(\d+)$", errors, re.MULTILINE)
    return bool(found) and int(found[1]) > 0


def stop(process):
    """Ends a process of ours and what it started: it leads a group of its own."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def run(command, limit_bytes=0, seconds=3600):
    timed_out = threading.Event()
    with tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        with subprocess.Popen(limited(command, limit_bytes), stdout=subprocess.PIPE, stderr=errors,
                              stdin=subprocess.DEVNULL, text=True, start_new_session=True) as process:
            timer = threading.Timer(seconds, lambda: (timed_out.set(), stop(process)))
            timer.start()
            try:
                lines = [(time.monotonic() - start, line) for line in process.stdout]
                code = process.wait()
            except BaseException:
                stop(process)
                raise
            finally:
                timer.cancel()
        errors.seek(0)
        text = errors.read()
    if limit_bytes and code == NO_CGROUP:
        raise PeersError(f"no memory cgroup can be made here: {text.strip()}")
    return Finished(code, lines, text, timed_out.is_set(), was_out_of_memory(text))
