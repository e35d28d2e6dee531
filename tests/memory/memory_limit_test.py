"""Invariant 2, the budget is kept: a run inside a memory cgroup of exactly
the planned bytes ends well, without the OOM killer, and leaves the page cache
as it was.

    memory_limit_test.py MODEL MEMORY...     the folder, and budgets to try

Ends with 77 where no memory cgroup can be made.
"""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile

import page_cache

SOURCE = os.environ["MLX_FLASH_SOURCE_DIR"]
BINARY = os.environ["MLX_FLASH_BINARY"]
LIMITER = os.path.join(SOURCE, "scripts", "with_memory_limit")
PROMPT = [497, 487, 261, 416, 14, 400, 288, 261, 407, 489, 667, 510]
TOKENS = 48


def run(model, memory, ids_file, limit=None):
    command = [BINARY, "run", model, "--ids", ids_file, "--json", "--temp", "0",
               "--max-tokens", str(TOKENS), "--ignore-eos", "--memory", memory]
    if limit is not None:
        command = [LIMITER, str(limit)] + command
    return subprocess.run(command, capture_output=True, text=True, timeout=1500)


def plan(model, memory, prompt):
    command = [BINARY, "plan", model, "--memory", memory, "--json",
               "--ctx", str(len(prompt) + TOKENS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        sys.exit(f"FAILED plan {memory}: {result.stderr}")
    return json.loads(result.stdout)


def check(condition, what, failures):
    print(("ok      " if condition else "FAILED  ") + what)
    if not condition:
        failures.append(what)


def check_budget(model, memory, prompt, failures):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as ids:
        json.dump(prompt, ids)
        ids.flush()
        check_run(model, memory, prompt, ids.name, failures)


def check_run(model, memory, prompt, ids_file, failures):
    weights = glob.glob(os.path.join(model, "*.safetensors"))
    for file in weights:
        page_cache.evict(file)
    planned = plan(model, memory, prompt)["planned_bytes"]
    result = run(model, memory, ids_file, limit=planned)
    if result.returncode == 77:
        print(result.stderr.strip())
        sys.exit(77)
    name = f"{memory}, {len(prompt)} tokens of prompt: "
    check(result.returncode == 0, name + f"ends well in a cgroup of {planned} bytes", failures)
    if result.returncode != 0:
        print(result.stderr)
        return
    limiter = re.search(r"memory limit: peak=(\d+) limit=(\d+) oom_kills=(\d+)", result.stderr)
    check(limiter is not None and limiter[3] == "0", name + "no OOM kill", failures)
    report = json.loads(result.stdout)
    stats = report["stats"]
    print(f"        planned {stats['planned_bytes']}, budget {stats['budget_bytes']}, "
          f"peak {stats['peak_bytes']}, cgroup peak {limiter[1]}, slots {stats['slots']}")
    check(len(report["tokens"]) == TOKENS, name + f"{TOKENS} tokens came out", failures)
    check(stats["planned_bytes"] == planned, name + "the run keeps to the plan", failures)
    check(stats["peak_bytes"] <= stats["budget_bytes"], name + "peak_bytes <= budget_bytes", failures)
    total = sum(os.path.getsize(file) for file in weights)
    cached = sum(page_cache.cached_bytes(file) for file in weights)
    check(cached <= total // 100, name + f"page cache holds {cached} of {total} bytes of weights", failures)
    check(stats["bytes_read_load"] < 0.9 * total, name + "loading did not read the whole files", failures)


def main():
    if sys.platform != "linux":
        print("memory cgroups are a thing of Linux")
        sys.exit(77)
    model, budgets = sys.argv[1], sys.argv[2:]
    failures = []
    for memory in budgets:
        check_budget(model, memory, PROMPT, failures)
    # Large steps need the most memory.
    check_budget(model, budgets[-1], PROMPT * 55, failures)
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
