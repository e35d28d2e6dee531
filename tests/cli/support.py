"""What the command line tests share: the binary, the demo model, one run."""

import json
import os
import subprocess
import tempfile

SOURCE = os.environ.get(
    "MLX_FLASH_SOURCE_DIR",
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
)
BINARY = os.environ.get(
    "MLX_FLASH_BINARY", os.path.join(SOURCE, "build", "dev", "mlx-flash")
)
MODEL = os.path.join(SOURCE, "models", "tiny-tales-moe")
# Sanitizers keep memory of their own, which no budget knows of.
SANITIZED = os.environ.get("MLX_FLASH_SANITIZE", "") != ""
TIMEOUT = 300  # only a test that hangs reaches it

# Exit codes, as --help tells them.
OK, FAILED, USAGE, NO_MODEL, NO_BUDGET, IO, CANCELLED = 0, 1, 2, 3, 4, 5, 130

STATS = {
    "steps": int,
    "prompt_steps": int,
    "mixed_steps": int,
    "prefill_tokens": int,
    "prefill_seconds": float,
    "decode_tokens": int,
    "decode_seconds": float,
    "expert_hits": int,
    "expert_misses": int,
    "expert_evictions": int,
    "bytes_read_demand": int,
    "bytes_read_prefetch": int,
    "bytes_read_load": int,
    "decode_expert_hits": int,
    "decode_expert_misses": int,
    "decode_bytes_read": int,
    "stall_seconds": float,
    "slots": int,
    "slots_used": int,
    "budget_bytes": int,
    "planned_bytes": int,
    "peak_bytes": int,
    "load_seconds": float,
    "threads": int,
    "reader": str,
    "policy": str,
    "precision": str,
    "device": str,
}


class Result:
    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout.decode("utf-8", "replace")
        self.err = process.stderr.decode("utf-8", "replace")

    def __repr__(self):
        return f"exit code {self.code}\nstdout: {self.out}\nstderr: {self.err}"


def flash(*arguments, stdin=None):
    """Runs mlx-flash. `stdin` is text; without it, standard input is empty."""
    return Result(
        subprocess.run(
            [BINARY, *(str(a) for a in arguments)],
            input=(stdin or "").encode(),
            capture_output=True,
            timeout=TIMEOUT,
        )
    )


def flash_json(*arguments, stdin=None):
    """Runs a command with --json that succeeds; its one object."""
    result = flash(*arguments, "--json", stdin=stdin)
    if result.code != OK:
        raise AssertionError(f"{arguments}: {result!r}")
    if result.out.count("\n") != 1 or not result.out.endswith("\n"):
        raise AssertionError(f"not one line: {result.out!r}")
    return json.loads(result.out)


def run_greedy(*arguments, stdin=None):
    return flash_json(
        "run", MODEL, "--temp", "0", "--quiet", *arguments, stdin=stdin
    )


def goldens():
    with open(os.path.join(MODEL, "goldens.json"), encoding="utf-8") as file:
        return json.load(file)["prompts"]


def temporary_file(test, content):
    """The path of a file with `content` that lives as long as the test."""
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    descriptor, path = tempfile.mkstemp(prefix="mlx-flash-test-")
    test.addCleanup(os.remove, path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def check_stats(test, stats):
    """Every promised field, of its type; seconds may be whole numbers."""
    test.assertEqual(set(stats), set(STATS))
    for name, kind in STATS.items():
        kinds = (int, float) if kind is float else kind
        test.assertIsInstance(stats[name], kinds, name)
