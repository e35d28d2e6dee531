"""Rows of bench/results/*.csv, and what they say."""
import argparse
import csv
import dataclasses
import pathlib
import statistics

from rivals import PeersError
from rivals.cases import CASES, parse_size

COLUMNS = ("date", "commit", "machine", "case", "engine", "version", "model", "router", "memory", "threads", "round",
           "tok_s", "seconds", "bytes_read", "disk_gb_s", "load", "command", "note")
REFERENCE = "llama.cpp"
OURS = "mlx-flash"


def append(path, row):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    if not is_new:
        check_header(path)
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def check_header(path):
    with open(path, newline="", encoding="utf-8") as file:
        header = next(csv.reader(file), [])
    if tuple(header) != COLUMNS:
        raise PeersError(f"{path}: its columns are not those of bench/peers: {','.join(COLUMNS)}")


def number(row, column, path):
    try:
        return float(row[column]) if row[column] else None
    except ValueError:
        raise PeersError(f"{path}: {column} is {row[column]!r}, which is no number") from None


def check_memory(row, path):
    try:
        parse_size(row["memory"] or "1B")
    except argparse.ArgumentTypeError as error:
        raise PeersError(f"{path}: memory: {error}") from None


def read(paths):
    rows = []
    for path in paths:
        check_header(path)
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                check_memory(row, path)
                rows.append({**row, **{column: number(row, column, path) for column in ("tok_s", "seconds")}})
    return rows


# -------------------------------------------------------------------- summaries
@dataclasses.dataclass(frozen=True)
class Question:
    """What rows have in common that may be compared."""

    machine: str
    case: str
    model: str
    router: str
    memory: str
    threads: str


@dataclasses.dataclass
class Answer:
    """One engine's rows of one question, from one session of measuring."""

    engine: str
    version: str
    runs: int
    median: float  # tok/s, or seconds of a first token; None: no run succeeded
    least: float
    most: float
    in_seconds: bool
    note: str  # why there is no median
    speedup: float = None  # against REFERENCE; more is better

    @property
    def spread(self):
        """Half of the range, as a share of the median."""
        return (self.most - self.least) / 2 / self.median


def version_of(row):
    """Ours is the commit: versions come seldom."""
    return f"{row['version']} at {row['commit']}" if row["engine"] == OURS else row["version"]


def answer_of(engine, rows):
    # A first token has seconds and no rate.
    in_seconds = all(row["tok_s"] is None for row in rows)
    column, version = "seconds" if in_seconds else "tok_s", version_of(rows[-1])
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        notes = [row["note"] for row in rows if row["note"]]
        return Answer(engine, version, 0, None, None, None, in_seconds, notes[-1] if notes else "no result")
    return Answer(engine, version, len(values), statistics.median(values), min(values), max(values), in_seconds, "")


def compare(answers):
    reference = next((answer for answer in answers if answer.engine == REFERENCE), None)
    if reference is None or reference.median is None:
        return
    for answer in answers:
        if answer.median is not None:
            ratio = answer.median / reference.median
            answer.speedup = 1 / ratio if answer.in_seconds else ratio


def order(engine):
    return (engine != OURS, engine != REFERENCE, engine)


def place(entry):
    """Where a question belongs among those of its machine and model."""
    question = entry[0]
    names = list(CASES)
    size = parse_size(question.memory) if question.memory else 0
    case = names.index(question.case) if question.case in names else len(names)
    return (question.machine, question.threads, question.model, case, question.router, size)


def summaries(rows):
    """[(question, date, answers)] of the latest session of each question: speeds of
    one machine change from hour to hour, so sessions are not mixed."""
    by_question = {}
    for row in rows:
        question = Question(*(row[field.name] for field in dataclasses.fields(Question)))
        by_question.setdefault(question, []).append(row)
    result = []
    for question, found in by_question.items():
        date = max(row["date"] for row in found)
        latest = [row for row in found if row["date"] == date]
        engines = sorted({row["engine"] for row in latest}, key=order)
        answers = [answer_of(engine, [row for row in latest if row["engine"] == engine]) for engine in engines]
        compare(answers)
        result.append((question, date, answers))
    return sorted(result, key=place)
