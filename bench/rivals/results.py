"""Rows of bench/results/*.csv, and what they say."""
import argparse
import csv
import dataclasses
import pathlib
import statistics

from rivals import PeersError
from rivals.cases import CASES, parse_size

COLUMNS = ("date", "commit", "machine", "case", "engine", "version", "model", "router", "gguf_type", "memory", "threads",
           "round", "tok_s", "seconds", "bytes_read", "disk_gb_s", "load", "command", "note")
REFERENCE = "llama.cpp"
OURS = "mlx-flash"
ENOUGH_ROUNDS = 5


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


def optional_float(row, column, path):
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
                rows.append({**row, **{column: optional_float(row, column, path) for column in ("tok_s", "seconds")}})
    return rows


# -------------------------------------------------------------------- summaries
@dataclasses.dataclass(frozen=True)
class Question:
    """What rows have in common that may be compared."""

    machine: str
    case: str
    model: str
    router: str
    gguf_type: str  # of the rivals' weights
    memory: str
    threads: str


@dataclasses.dataclass
class Answer:
    """One engine's rows of one question, from one session of measuring."""

    engine: str
    version: str
    runs: int  # that succeeded
    failed: int
    median: float  # tok/s, or seconds of a first token; None: no run succeeded
    least: float
    most: float
    in_seconds: bool
    note: str  # why a run failed
    speedup: float = None  # against REFERENCE; more is better

    @property
    def spread(self):
        """Half of the range, as a share of the median."""
        return (self.most - self.least) / 2 / self.median


def answer_of(engine, rows):
    case = CASES.get(rows[0]["case"])
    in_seconds = case is not None and case.measures == "first token"
    column, version = "seconds" if in_seconds else "tok_s", rows[-1]["version"]
    values = [row[column] for row in rows if row[column] is not None]
    failed = len(rows) - len(values)
    notes = [row["note"] for row in rows if row["note"]]
    note = notes[-1] if notes else "no result"
    if not values:
        return Answer(engine, version, 0, failed, None, None, None, in_seconds, note)
    return Answer(engine, version, len(values), failed, statistics.median(values), min(values), max(values), in_seconds,
                  note if failed else "")


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
    return (question.machine, question.threads, question.model, case, question.router, question.gguf_type, size)


def session_of(rows):
    """The rows of the session that counts: one that can be compared, has enough
    rounds, else the most, and the most engines; the latest of such. Speeds of one
    machine change from hour to hour, so sessions are not mixed."""
    sessions = {}
    for row in rows:
        sessions.setdefault(row["date"], []).append(row)

    def worth(entry):
        date, found = entry
        engines = {row["engine"] for row in found}
        rounds = min(sum(row["engine"] == engine for row in found) for engine in engines)
        return {OURS, REFERENCE} <= engines, min(rounds, ENOUGH_ROUNDS), len(engines), date

    return max(sessions.items(), key=worth)


def summaries(rows):
    """[(question, date, answers)], of one session of each question."""
    by_question = {}
    for row in rows:
        question = Question(*(row[field.name] for field in dataclasses.fields(Question)))
        by_question.setdefault(question, []).append(row)
    result = []
    for question, found in by_question.items():
        date, session = session_of(found)
        engines = sorted({row["engine"] for row in session}, key=order)
        answers = [answer_of(engine, [row for row in session if row["engine"] == engine]) for engine in engines]
        compare(answers)
        result.append((question, date, answers))
    return sorted(result, key=place)
