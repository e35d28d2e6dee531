"""How each engine is started for a case, and how what it prints is read.

    mlx-flash   our program: `run --ids --json`; its stats
    llama.cpp   bench/llama_bench.cpp: a JSON line for each phase
    bigmoe      BigMoeOnEdge's bmoe-cli with its serial streaming; its summary
    mlx-lm      a small Python program; on CPUs for tiny models only

Each is given what is best for it in the case at hand. llama.cpp repacks its
weights where they stay in memory, without a map of the file beside them; from
disk it maps the file and repacks nothing, since it would have to hold all of
it. All decode tokens that are near random: llama_bench draws its own, ours and
BigMoeOnEdge sample at temperature 1, which over random weights is nearly
uniform. Greedy answers of such models repeat themselves, and what repeats is in
memory; mlx-lm, which answers greedily, is only measured where all is in memory.
"""
import dataclasses
import json
import os
import pathlib
import random
import re
import string
import sys

from rivals import PeersError
from rivals.cases import parse_size
from rivals.results import OURS, REFERENCE

HERE = pathlib.Path(__file__).resolve().parent
READ_AHEAD_KB = 128  # for maps of files; the usual default, and best for experts of MBs
BLOCK_BYTES = {"q4_0": 18 / 32, "q4_k": 144 / 256}  # of one weight
# What bmoe-cli holds besides dense weights and its cache: buffers of the graph,
# keys and values, the vocabulary, and a share of page cache.
BIGMOE_OVERHEAD = 500 * 10**6


@dataclasses.dataclass
class Measured:
    """One run's figure. Without tokens it is the time of a first token."""

    seconds: float
    tokens: int = 0
    bytes_read: int = 0

    @property
    def rate(self):
        return self.tokens / self.seconds if self.tokens else None


@dataclasses.dataclass
class Setting:
    """What does not change during a session."""

    threads: int
    programs: dict  # engine -> path
    mlx_model: pathlib.Path
    gguf_model: pathlib.Path
    gguf_type: str
    prompts: pathlib.Path  # a folder for them
    versions: dict  # engine -> text
    bigmoe_cache_mb: int = 0  # 0: as much as fits


def config_of(folder):
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise PeersError(f"{folder}/config.json: {error}") from error


def integer_of(config, key, where):
    if not isinstance(config.get(key), int):
        raise PeersError(f"{where}: {key} is {config.get(key)!r}; it must be an integer")
    return config[key]


def random_ids(count, vocab, seed):
    draw = random.Random(seed)
    return [draw.randrange(vocab) for _ in range(count)]


def random_text(count, seed):
    """Text of `count` bytes, which are as many tokens: bench/make_model's GGUFs
    have no longer ones."""
    draw, signs = random.Random(seed), string.ascii_letters + string.digits + "!#%&()*+,./:;=?@[]^_{}~"
    return "".join(draw.choice(signs) for _ in range(count))


def prompt_file(setting, case, seed):
    vocab = integer_of(config_of(setting.mlx_model), "vocab_size", f"{setting.mlx_model}/config.json")
    path = setting.prompts / f"{case.prompt}-of-{vocab}-{seed}.json"
    path.write_text(json.dumps(random_ids(case.prompt, vocab, seed)))
    return path


def last_json(lines):
    """(the time its line came, the object)."""
    for moment, text in reversed(lines):
        if text.startswith("{"):
            return moment, json.loads(text)
    raise PeersError("printed no JSON object")


def require_tokens(made, wanted):
    if made != wanted:
        raise PeersError(f"{made} of {wanted} tokens")


def checked(case, measured, first_of_prompt=0):
    """Refuses the figure of a run that did less than the case asks for. Some
    engines count a first token, which the prompt's last step gives, as decoded."""
    require_tokens(measured.tokens, case.tokens - first_of_prompt)
    if measured.seconds <= 0:
        raise PeersError(f"{measured.tokens} of {case.tokens} tokens in {measured.seconds} s")
    return measured


# -------------------------------------------------------------------- mlx-flash
class MlxFlash:
    name, read_ahead_kb = OURS, 0

    def model(self, setting):
        return setting.mlx_model

    def suits(self, case):
        return True

    def command(self, setting, case, memory, seed):
        budget = ["--resident"] if case.resident else ["--memory", memory]
        if case.resident and memory:
            budget += ["--memory", memory]
        return [str(setting.programs[self.name]), "run", str(setting.mlx_model), "--ids",
                str(prompt_file(setting, case, seed)), "--json", "--quiet", "--max-tokens", str(case.decode),
                "--ignore-eos", "--temp", "1", "--seed", str(seed), "--threads", str(setting.threads), *budget]

    def measure(self, case, finished):
        moment, printed = last_json(finished.lines)
        stats = printed["stats"]
        require_tokens(len(printed["tokens"]), case.decode)
        if case.measures == "decode":
            return checked(case, Measured(stats["decode_seconds"], stats["decode_tokens"], stats["decode_bytes_read"]),
                           first_of_prompt=1)
        read = stats["bytes_read_load"] + stats["bytes_read_demand"] + stats["bytes_read_prefetch"]
        if case.measures == "prefill":
            return checked(case, Measured(stats["prefill_seconds"], stats["prefill_tokens"],
                                          read - stats["bytes_read_load"]))
        # With one token to make, the object is printed as soon as it is made.
        return checked(case, Measured(moment, bytes_read=read))


# -------------------------------------------------------------------- llama.cpp
def llama_phases(lines):
    """phase -> (the time its line came, the line's object)."""
    phases = {}
    for moment, text in lines:
        if text.startswith("{"):
            entry = json.loads(text)
            phases[entry["phase"]] = moment, entry
    return phases


class LlamaCpp:
    name, read_ahead_kb = REFERENCE, READ_AHEAD_KB

    def model(self, setting):
        return setting.gguf_model

    def suits(self, case):
        return True

    def command(self, setting, case, memory, seed):
        ways = ["--repack", "on", "--mmap", "off"] if case.resident else ["--repack", "off", "--mmap", "on"]
        decode = case.decode if case.measures == "decode" else 0
        return [str(setting.programs[self.name]), "-m", str(setting.gguf_model), "-p", str(case.prompt),
                "-n", str(decode), "-t", str(setting.threads), "--seed", str(seed), *ways]

    def measure(self, case, finished):
        phases = llama_phases(finished.lines)
        wanted = "decode" if case.measures == "decode" else "prefill"
        if wanted not in phases:
            raise PeersError(f"llama_bench printed no line of phase {wanted}")
        moment, entry = phases[wanted]
        if case.measures == "first token":
            require_tokens(entry["tokens"], case.prompt)
            return checked(case, Measured(moment, bytes_read=sum(line["bytes_read"] for _, line in phases.values())))
        return checked(case, Measured(entry["seconds"], entry["tokens"], entry["bytes_read"]))


# ----------------------------------------------------------------- BigMoeOnEdge
def expert_bytes(config, gguf_type):
    layers = config["num_hidden_layers"] - len(config.get("mlp_only_layers") or [])
    weights = 3 * config["hidden_size"] * config["moe_intermediate_size"] * config["num_experts"] * layers
    return int(weights * BLOCK_BYTES[gguf_type])


def bigmoe_cache_mb(setting, memory):
    """The largest cache that its process can have under the limit."""
    if setting.bigmoe_cache_mb:
        return setting.bigmoe_cache_mb
    experts = expert_bytes(config_of(setting.mlx_model), setting.gguf_type)
    dense = setting.gguf_model.stat().st_size - experts
    return max(min(parse_size(memory) - dense - BIGMOE_OVERHEAD, experts) // 2**20, 0)


class BigMoe:
    name, read_ahead_kb = "bigmoe", 0

    def model(self, setting):
        return setting.gguf_model

    def suits(self, case):
        return case.cold and case.measures == "decode"

    def command(self, setting, case, memory, seed):
        context = case.prompt + case.decode + 32
        return [str(setting.programs[self.name]), "-m", str(setting.gguf_model), "--moe-stream", "--cache-mb",
                str(bigmoe_cache_mb(setting, memory)), "--io-threads", "8", "--dense-weights", "anon", "--force-cache",
                "-t", str(setting.threads), "-c", str(context), "-n", str(case.decode), "--temp", "1", "--top-k", "0",
                "--top-p", "1", "--seed", str(seed), "-p", random_text(case.prompt, seed)]

    def measure(self, case, finished):
        rate = re.search(r"^generation: (\d+) tokens, ([\d.]+) s/token", finished.output, re.MULTILINE)
        if not rate:
            raise PeersError("bmoe-cli printed no line 'generation: N tokens, X s/token'")
        read = re.search(r"^moe-stream: read ([\d.]+) MiB", finished.output, re.MULTILINE)
        tokens = int(rate[1])
        return checked(case, Measured(tokens * float(rate[2]), tokens, int(float(read[1]) * 2**20) if read else 0))


# ----------------------------------------------------------------------- mlx-lm
class MlxLm:
    name, read_ahead_kb = "mlx-lm", 0

    def model(self, setting):
        return setting.mlx_model

    def suits(self, case):
        return case.resident

    def command(self, setting, case, memory, seed):
        # MLX starts as many threads as it likes: processors are what can be limited.
        processors = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:setting.threads])
        return ["taskset", "--cpu-list", processors, str(setting.programs[self.name]), str(HERE / "mlx_lm_bench.py"),
                str(setting.mlx_model), str(prompt_file(setting, case, seed)), str(case.decode)]

    def measure(self, case, finished):
        _, entry = last_json(finished.lines)
        return checked(case, Measured(entry[f"{case.measures}_seconds"], entry[f"{case.measures}_tokens"]),
                       first_of_prompt=case.measures == "decode")


ENGINES = {engine.name: engine for engine in (MlxFlash(), LlamaCpp(), BigMoe(), MlxLm())}


def default_programs(root, build):
    return {
        OURS: root / "build" / "release" / "mlx-flash",
        REFERENCE: build / "llama_bench",
        "bigmoe": build / "bmoe-cli",
        "mlx-lm": pathlib.Path(sys.executable),
    }
