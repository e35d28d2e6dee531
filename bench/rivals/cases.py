"""What is measured. All engines of a case get the same shape, number of tokens,
threads and memory."""
import argparse
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    what: str  # for people
    prompt: int  # tokens
    decode: int
    measures: str  # "decode" and "prefill" in tok/s, "first token" in seconds
    cold: bool = False  # weights come from disk: caches are dropped before each run
    memory: tuple = ("",)  # of the cgroup; empty: none

    @property
    def resident(self):
        return not self.cold

    @property
    def tokens(self):
        """That are measured; 0 for a first token, whose time is what counts."""
        return {"decode": self.decode, "prefill": self.prompt}.get(self.measures, 0)


CASES = {case.name: case for case in (
    Case("decode-resident", "decode, all in memory, context 0", 1, 64, "decode"),
    Case("decode-resident-512", "decode, all in memory, context 512", 512, 64, "decode"),
    Case("decode-4096", "decode, all in memory, context 4096", 4096, 32, "decode"),
    Case("prefill-512", "prompt of 512, all in memory", 512, 1, "prefill"),
    Case("out-of-core", "decode from disk, 96 tokens after 128", 128, 96, "decode", cold=True,
         memory=("4GB", "6GB", "8GB", "12GB")),
    Case("ttft", "first token of a prompt of 128, from process start", 128, 1, "first token", cold=True,
         memory=("8GB",)),
)}


def parse_size(text):
    """Bytes of "500MB", "8GB" or "1GiB"; powers of ten unless there is an i."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    size = 0
    if found:
        base = 1024 if found[3] else 1000
        size = int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 500MB or 8GB")
    return size


def memory_size(text):
    """The text itself, once it is known to be a size: rows and commands show it."""
    parse_size(text)
    return text.strip()
