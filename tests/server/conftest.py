"""Servers for the tests: a scripted one, which says what a test tells it to,
and the real program on the demo model. All that clients hear of them is
compared with the descriptions of the APIs."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
import requests

from checked_traffic import CheckedTraffic

SOURCE = os.environ.get(
    "MLX_FLASH_SOURCE_DIR",
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
)
# Not there where MLX is not.
BINARY = os.environ.get("MLX_FLASH_BINARY")
SCRIPTED = os.environ.get(
    "MLX_FLASH_SCRIPTED_SERVER",
    os.path.join(SOURCE, "build", "release", "scripted_server"),
)
DEMO = os.path.join(SOURCE, "models", "tiny-tales-moe")

# Whatever proxy there is, none is between us and ourselves.
os.environ["NO_PROXY"] = "127.0.0.1"

ALL_TRAFFIC = []
COUNTS = {"answers": 0, "events": 0, "signs of life": 0}
# What the tests have compared at least when all have run that need no engine.
LEAST = {"answers": 200, "events": 2000, "signs of life": 5}
NOTES = []


class Server:
    """A server's addresses, and the model that it serves."""

    def __init__(self, port, model):
        self.direct = f"http://127.0.0.1:{port}"  # for what is measured
        self.traffic = CheckedTraffic(port)
        self.url = f"http://127.0.0.1:{self.traffic.port}"
        self.model = model
        ALL_TRAFFIC.append(self.traffic)

    def status(self):
        return requests.get(self.direct + "/status", timeout=60).json()

    def wait_until_idle(self):
        """Until no answer is being made."""
        for _ in range(1000):
            if not self.status()["running"]:
                return
            time.sleep(0.01)
        raise AssertionError(f"still busy: {self.status()['running']}")


@pytest.fixture(autouse=True)
def every_answer_is_as_described():
    for traffic in ALL_TRAFFIC:
        traffic.begin_test()
    yield
    wrong = []
    for traffic in ALL_TRAFFIC:
        wrong += traffic.found_wrong
        for exchange in traffic.exchanges:
            COUNTS["answers"] += exchange.stream is None
            COUNTS["events"] += len(exchange.events)
            COUNTS["signs of life"] += len(exchange.comments)
    assert not wrong, "\n".join(wrong[:10])


def pytest_sessionfinish(session, exitstatus):
    config = session.config
    all_have_run = (
        exitstatus == pytest.ExitCode.OK
        and config.args_source is pytest.Config.ArgsSource.INVOCATION_DIR
        and not config.option.keyword
    )
    if all_have_run and any(COUNTS[what] < least for what, least in LEAST.items()):
        NOTES.append(f"too little was compared: at least {LEAST} is expected")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def note():
    """Takes lines for the end of the report."""
    return NOTES.append


def pytest_terminal_summary(terminalreporter):
    for line in NOTES:
        terminalreporter.write_line(line)
    counts = ", ".join(f"{count} {what}" for what, count in COUNTS.items())
    terminalreporter.write_line(f"compared with the APIs' descriptions: {counts}")


def start_scripted(*arguments):
    process = subprocess.Popen(
        [SCRIPTED, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Server(int(process.stdout.readline()), "scripted")


def run_scripted(*arguments):
    process, server = start_scripted(*arguments)
    yield server
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.fixture(scope="session")
def scripted():
    yield from run_scripted()


@pytest.fixture(scope="session")
def impatient():
    """One that gives signs of life all the time."""
    yield from run_scripted("0.02")


@pytest.fixture(scope="session")
def locked():
    """One that wants the key "sesame"."""
    yield from run_scripted("5", "sesame")


def serve(model, *flags):
    """The program on a model, and its address, once it is loaded."""
    process = subprocess.Popen(
        [BINARY, "serve", model, "--port", "0", "--memory", "64MB", *flags],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        found = re.search(r"http://[^:]+:(\d+)", line)
        if found:
            break
    else:
        raise RuntimeError(f"the server has ended with {process.wait()}")
    # So that it never waits for its log to be read.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    server = Server(int(found[1]), os.path.basename(model))
    wait_until_ready(server)
    return process, server


def wait_until_ready(server):
    for _ in range(600):
        if requests.get(server.direct + "/ready", timeout=10).status_code == 200:
            return
        time.sleep(0.1)
    raise RuntimeError("the model is not loaded")


def run_program(model):
    if BINARY is None:
        pytest.skip("this build has no engine")
    process, server = serve(model, "--ctx", "4096")
    yield server
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture(scope="session")
def demo():
    yield from run_program(DEMO)


def add_call_token(path):
    """In place of the last token of the vocabulary."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    word, last = max(vocabulary.items(), key=lambda item: item[1])
    del vocabulary[word]
    assert "".join(tokenizer["model"]["merges"].pop()) == word
    ends = ("single_word", "lstrip", "rstrip", "normalized", "special")
    tokenizer["added_tokens"].append(
        {"id": last, "content": "<tool_call>", **{end: False for end in ends}}
    )
    path.unlink()
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture(scope="session")
def demo_with_tools(tmp_path_factory):
    """The demo model with Qwen3's chat template, which knows tools, with a token
    that begins a call, as Qwen3 has one, and with a pooling, so that it has
    embeddings."""
    folder = tmp_path_factory.mktemp("models") / "tiny-tales-tools"
    folder.mkdir()
    for name in os.listdir(DEMO):
        if name.endswith((".json", ".safetensors")):
            (folder / name).symlink_to(os.path.join(DEMO, name))
    template = os.path.join(
        SOURCE, "tests/data/chat-templates/llama.cpp/Qwen-Qwen3-0.6B.jinja"
    )
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    with open(template, encoding="utf-8") as file:
        settings["chat_template"] = file.read()
    config.unlink()
    config.write_text(json.dumps(settings))
    add_call_token(folder / "tokenizer.json")
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"path": path, "type": f"sentence_transformers.models.{kind}"}
                for path, kind in modules.items()
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    yield from run_program(str(folder))
