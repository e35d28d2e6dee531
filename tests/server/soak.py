#!/usr/bin/env python3
"""Many clients at once, among them bad ones: tests/server/soak.py [SECONDS]

64 clients ask the demo model for minutes (600 seconds unless said otherwise):
some read to the end, some slowly, some go away in the midst, and some send what
is no request. Every finished answer must be what the same request got alone,
nobody may be left waiting, and memory must stay as it was. Prints the seed that
decides who does what. Ends with 77 where there is no engine. Linux.
"""
import collections
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SOURCE = os.environ.get(
    "MLX_FLASH_SOURCE_DIR",
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
)
BINARY = os.environ.get(
    "MLX_FLASH_BINARY", os.path.join(SOURCE, "build", "release", "mlx-flash")
)
DEMO = os.path.join(SOURCE, "models", "tiny-tales-moe")
CLIENTS = 64
# Shorter runs do not settle, and their memory is only printed.
LEAST_SECONDS_FOR_MEMORY = 300
MOST_GROWTH = 0.02
CONTEXT = 16384  # of all requests together
# What is kept for later requests is small, so that it is full from the start:
# what grows then is a leak.
FLAGS = (
    f"--memory 96MB --ctx {CONTEXT} --parallel 16 --queue 64 --log-level error "
    "--max-stored 32 --max-replayed-bytes 32768"
)
PROMPT = 1000  # tokens, which the demo model has room for
TOKENS = 2000  # ordinary ids are below


def texts_of_chat(event):
    return [choice["delta"].get("content") or "" for choice in event["choices"]]


def texts_of_completion(event):
    return [choice["text"] for choice in event["choices"]]


def texts_of_response(event):
    return [event["delta"]] if event["type"].endswith("output_text.delta") else []


def texts_of_message(event):
    kind = event["type"] == "content_block_delta"
    return [event["delta"]["text"]] if kind else []


def texts_of_ollama_chat(event):
    return [event["message"]["content"]]


def texts_of_ollama(event):
    return [event["response"]]


def make_requests():
    """(path, body, how its events' texts are had) of each dialect."""
    stories = ["a brave rabbit", "an owl who could not sleep", "the sea"]
    for number, hero in enumerate(stories):
        text = f"Tell me a story about {hero}. " * (1 + 8 * number)
        seed = {"temperature": 1, "seed": number}
        asked = {"messages": [{"role": "user", "content": text}]}
        most = 40 + 40 * number
        options = {"options": {**seed, "num_predict": most}}
        yield "/v1/chat/completions", {**asked, **seed, "max_tokens": most}, texts_of_chat
        yield "/v1/completions", {"prompt": text, **seed, "max_tokens": most}, texts_of_completion
        yield "/v1/responses", {"input": text, "temperature": 0, "max_output_tokens": most}, texts_of_response
        yield "/v1/messages", {**asked, "temperature": 0, "max_tokens": most}, texts_of_message
        yield "/api/chat", {**asked, **options}, texts_of_ollama_chat
        yield "/api/generate", {"prompt": text, **options}, texts_of_ollama


REQUESTS = [
    (path, {"model": "tiny-tales-moe", "stream": True, **body}, texts)
    for path, body, texts in make_requests()
]


class Refused(Exception):
    """The server answered, but not with 200."""


def begin(port, path, data):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"content-type": "application/json"}
    connection.request("POST", path, data, headers)
    response = connection.getresponse()
    if response.status != 200:
        body = response.read()
        connection.close()
        raise Refused(f"{response.status} {body.decode(errors='replace')}")
    return connection, response


def events_of(lines):
    for line in lines:
        line = line.decode().strip()
        if line.startswith("data: "):
            line = line[len("data: ") :]
        if line.startswith("{"):
            yield json.loads(line)


def read_to_the_end(port, request, pause=lambda: None):
    """The whole answer's text."""
    path, body, texts = request
    connection, response = begin(port, path, json.dumps(body))

    def lines():
        while line := response.readline():
            pause()
            yield line

    text = "".join(part for event in events_of(lines()) for part in texts(event))
    connection.close()
    return text


def go_away(port, request, rng):
    path, body, _ = request
    try:
        connection, response = begin(port, path, json.dumps(body))
        response.read1(rng.randrange(1, 2000))
    except Refused:
        return
    connection.sock and connection.sock.close()
    connection.close()


def send_damaged(port, request, rng):
    """A body some of whose bytes are others, cut short, or nested too deeply."""
    path, body, _ = request
    data = bytearray(json.dumps(body).encode())
    how = rng.randrange(3)
    if how == 0:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif how == 1:
        del data[rng.randrange(len(data)) :]
    else:
        data = b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}"
    try:
        connection, response = begin(port, path, bytes(data))
        response.read()
        connection.close()
    except Refused as refused:
        if not str(refused).startswith("4"):
            raise


def send_garbage(port, rng):
    """What is no HTTP, or the beginning of some."""
    data = rng.choice(
        [
            bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4000))),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n",
            b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
            b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999\r\n\r\n",
            b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            if rng.random() < 0.5:
                connection.settimeout(1)
                connection.recv(65536)
        except OSError:
            pass


class Soak:
    def __init__(self, port, seconds, seed):
        self.port = port
        self.seed = seed
        self.until = time.monotonic() + seconds
        self.alone = [read_to_the_end(port, request) for request in REQUESTS]
        self.counts = collections.Counter()
        self.wrong = []
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def client(self, number):
        rng = random.Random(f"{self.seed} {number}")
        while time.monotonic() < self.until and not self.wrong:
            try:
                self.ask(rng)
            except Exception as error:  # whatever it is, it is wrong
                with self.lock:
                    self.wrong.append(f"{type(error).__name__}: {error}")

    def ask(self, rng):
        which = rng.randrange(len(REQUESTS))
        request = REQUESTS[which]
        what = rng.random()
        if what < 0.6:
            self.compare(which, read_to_the_end(self.port, request))
            self.count("read to the end")
        elif what < 0.7:
            text = read_to_the_end(self.port, request, lambda: time.sleep(rng.random() / 50))
            self.compare(which, text)
            self.count("read slowly")
        elif what < 0.85:
            go_away(self.port, request, rng)
            self.count("went away")
        elif what < 0.95:
            send_damaged(self.port, request, rng)
            self.count("damaged")
        else:
            send_garbage(self.port, rng)
            self.count("garbage")

    def compare(self, which, text):
        if text != self.alone[which]:
            path, body, _ = REQUESTS[which]
            raise AssertionError(
                f"{path} {json.dumps(body)[:200]} answered {text!r}, alone {self.alone[which]!r}"
            )

    def run(self, sample):
        threads = [threading.Thread(target=self.client, args=(i,)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            sample()
            time.sleep(1)
        for thread in threads:
            thread.join()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what} after {seconds} s")
        time.sleep(0.1)


def own_memory(process):
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1]) * 1024


def start(*flags):
    """A server of the demo model that is ready, and its port."""
    process = subprocess.Popen(
        [BINARY, "serve", DEMO, "--port", "0", *flags], stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if found := re.search(r"http://[^:]+:(\d+)", line):
            break
    else:
        sys.exit(f"FAILED: the server has ended with {process.wait()}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    port = int(found[1])
    wait_for("not ready", lambda: get(port, "/ready")[0] == 200)
    return process, port


def fill_kv_cache(port):
    """Beginnings of prompts are kept until there is no room for more."""
    rng = random.Random(0)
    for _ in range(CONTEXT // PROMPT + 2):
        prompt = [rng.randrange(TOKENS) for _ in range(PROMPT)]
        body = {"prompt": prompt, "max_tokens": 1, "stream": True}
        read_to_the_end(port, ("/v1/completions", body, texts_of_completion))


def check_memory(samples, seconds):
    """The last fifth of the run against the second one."""
    fifth = len(samples) // 5
    before = statistics.median(samples[fifth : 2 * fifth])
    after = statistics.median(samples[-fifth:])
    growth = after / before - 1
    print(f"memory: {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB ({growth:+.2%})")
    return seconds < LEAST_SECONDS_FOR_MEMORY or growth <= MOST_GROWTH


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    if not os.path.exists(BINARY):
        print("skipped: this build has no engine")
        return 77
    seed = int(os.environ.get("SOAK_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cache = ["--prompt-cache", os.path.join(folder, "prompts"), "20MB"]
        process, port = start(*FLAGS.split(), *cache)
        fill_kv_cache(port)
        soak = Soak(port, seconds, seed)
        samples = []
        soak.run(lambda: samples.append(own_memory(process)))
        wait_for("requests are left", lambda: not json.loads(get(port, "/status")[1])["running"])
        for which, request in enumerate(REQUESTS):
            soak.compare(which, read_to_the_end(port, request))
        print(", ".join(f"{count} {what}" for what, count in sorted(soak.counts.items())))
        flat = check_memory(samples, seconds)
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    if soak.wrong or not flat or status != 0:
        print("FAILED:", *soak.wrong[:5], "" if flat else "memory grew", f"exit status {status}")
        return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
