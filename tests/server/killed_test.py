#!/usr/bin/env python3
"""A server that is killed while it writes its prompt cache loses no more than
what it was writing: tests/server/killed_test.py

Again and again a server is killed at a random moment while it reads prompts,
and the next one uses the same folder. What the killed ones said was written
must be there, every answer must be what it is without a cache, and nothing
may be found damaged. Prints the seed. Ends with 77 where there is no engine.
"""
import json
import os
import random
import sys
import tempfile
import threading
import time

from soak import BINARY, Refused, get, read_to_the_end, start, texts_of_completion

ROUNDS = 8
PROMPTS = 6  # in each round
FLAGS = "--memory 64MB --ctx 8192 --parallel 4 --log-level error"
WORDS = "the brave rabbit saw an owl by the sea and told a story of old times".split()


def make_prompt(rng):
    return " ".join(rng.choice(WORDS) for _ in range(500))  # some eight pages


def answer(port, prompt):
    body = {"model": "tiny-tales-moe", "prompt": prompt, "max_tokens": 4, "temperature": 0, "stream": True}
    return read_to_the_end(port, ("/v1/completions", body, texts_of_completion))


def disk_cache(port):
    return json.loads(get(port, "/cache/stats")[1])["disk_cache"]


def ask_and_kill(process, port, prompts, seconds):
    """Kills the server so long after its first page; the pages that it said it had written."""

    def ask(prompt):
        try:
            answer(port, prompt)
        except (OSError, Refused, json.JSONDecodeError):
            pass  # it was killed
        except Exception as error:  # an answer cut short
            if type(error).__module__ != "http.client":
                raise

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    while not (written := disk_cache(port)["pages_written"]):
        time.sleep(0.001)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        written = disk_cache(port)["pages_written"]
    process.kill()
    process.wait()
    for thread in threads:
        thread.join()
    return written


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def main():
    if not os.path.exists(BINARY):
        print("skipped: this build has no engine")
        return 77
    seed = int(os.environ.get("KILLED_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    prompts = [make_prompt(rng) for _ in range(ROUNDS * PROMPTS)]
    process, port = start(*FLAGS.split())
    expected = [answer(port, prompt) for prompt in prompts]
    process.terminate()
    process.wait()
    with tempfile.TemporaryDirectory() as folder:
        flags = [*FLAGS.split(), "--prompt-cache", os.path.join(folder, "prompts"), "200MB"]
        written = 0
        for i in range(0, len(prompts), PROMPTS):
            process, port = start(*flags)
            found = disk_cache(port)["files"]
            check(found >= written, f"{written} pages were written, {found} are there")
            now = ask_and_kill(process, port, prompts[i : i + PROMPTS], rng.random() / 5)
            written = found + now
            print(f"{found} pages found, killed after {now} more", flush=True)
        process, port = start(*flags)
        for prompt, text in zip(prompts, expected):
            check(answer(port, prompt) == text, f"another answer to {prompt[:60]!r}")
        stats = disk_cache(port)
        check(stats["pages_read"] >= written, f"{stats['pages_read']} of {written} pages were read")
        check(stats["failures"] == 0, f"{stats['failures']} pages were damaged")
        process.terminate()
        check(process.wait(60) == 0, "the server ended with an error")
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
