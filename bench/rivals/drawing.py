"""The Markdown table and the SVG chart of bench/report."""
import html

from rivals.cases import CASES
from rivals.results import OURS, REFERENCE

NOTHING = "Nothing has been measured yet."
TITLES = {"bigmoe": "BigMoeOnEdge (serial)"}

# Greys and hues that stand out on white and on black alike: the same file is
# shown on light and dark pages.
TEXT, COLOURS, OTHER = "#808890", {OURS: "#2f81c7", REFERENCE: "#c98a2b"}, "#8a6fb0"
WIDTH, LABELS, VALUES, BAR, GAP, HEAD = 790, 160, 150, 18, 4, 26


def title(engine):
    return TITLES.get(engine, engine)


def what(question):
    """The case in words."""
    known = CASES.get(question.case)
    words = known.what if known else question.case
    return f"{words}, {question.router} routing" if question.router and known and known.cold else words


def figure(answer):
    if answer.median is None:
        return answer.note
    unit, digits = ("s", 2) if answer.in_seconds else ("tok/s", 1 if answer.median >= 10 else 2)
    words = f"{answer.median:.{digits}f} {unit}"
    return f"{words} ({answer.failed} of {answer.runs + answer.failed} failed: {answer.note})" if answer.failed else words


def ratio(answer):
    return "" if answer.speedup is None or answer.engine == REFERENCE else f"{answer.speedup:.2f}x"


# ------------------------------------------------------------------------ table
def cell(answer):
    if answer is None:
        return ""
    if answer.median is None:
        return answer.note
    words = f"{figure(answer)} ±{100 * answer.spread:.0f} %"
    return f"{words}, **{ratio(answer)}**" if ratio(answer) else words


def line(cells):
    return f"| {' | '.join(cells)} |"


def machine_table(summaries):
    engines = list(dict.fromkeys(answer.engine for _, _, answers in summaries for answer in answers))
    lines = [line(["model", "case", "memory", *map(title, engines), "runs", "date"]),
             "|" + "---|" * (5 + len(engines))]
    for question, date, answers in summaries:
        found = {answer.engine: answer for answer in answers}
        runs = {answer.runs for answer in answers if answer.runs}
        lines.append(line([question.model, what(question), question.memory or "no limit",
                           *(cell(found.get(engine)) for engine in engines),
                           "-".join(str(n) for n in sorted({min(runs), max(runs)})) if runs else "0", date[:10]]))
    return lines


def versions(summaries):
    """What each engine's lines are of: which lines, where they differ."""
    found = {}
    for number, (_, _, answers) in enumerate(summaries, 1):
        for answer in answers:
            found.setdefault(title(answer.engine), {}).setdefault(answer.version, []).append(str(number))
    return "; ".join(f"{engine}: {versions_of(lines)}" for engine, lines in found.items())


def versions_of(lines):
    """lines: {version: its lines}"""
    if len(lines) == 1:
        return next(iter(lines))
    return ", ".join(f"{version} in line{'s' * (len(of) > 1)} {' '.join(of)}" for version, of in lines.items())


def table(summaries):
    """Markdown: one table for each machine and number of threads."""
    if not summaries:
        return NOTHING
    places = list(dict.fromkeys((question.machine, question.threads) for question, _, _ in summaries))
    parts = []
    for machine, threads in places:
        here = [entry for entry in summaries if (entry[0].machine, entry[0].threads) == (machine, threads)]
        parts.append("\n".join([f"{machine}; {threads} threads. Medians, ± half the range, and how many times as fast "
                                f"as {REFERENCE}.", "", *machine_table(here), "", f"{versions(here)}."]))
    return "\n\n".join(parts)


# ------------------------------------------------------------------------ chart
def text(x, y, words, anchor="start", weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}" fill="{TEXT}">'
            f"{html.escape(words)}</text>")


def bar(y, answer, share):
    room = WIDTH - LABELS - VALUES
    label = ", ".join(filter(None, (figure(answer), ratio(answer))))
    colour = COLOURS.get(answer.engine, OTHER)
    return [text(LABELS - 8, y + 13, title(answer.engine), "end"),
            f'<rect x="{LABELS}" y="{y}" width="{max(room * share, 1):.0f}" height="{BAR}" rx="2" fill="{colour}"/>',
            text(LABELS + max(room * share, 1) + 8, y + 13, label)]


def speed(answer):
    if answer.median is None:
        return 0.0
    return 1 / answer.median if answer.in_seconds else answer.median


def group(y, question, answers):
    """The bars of one question, as long as their share of the fastest."""
    memory = f", {question.memory}" if question.memory else ""
    parts = [text(0, y + 14, f"{question.model}: {what(question)}{memory}", weight="bold")]
    y += HEAD
    fastest = max(speed(answer) for answer in answers) or 1
    for answer in answers:
        parts += bar(y, answer, speed(answer) / fastest)
        y += BAR + GAP
    return y + HEAD - GAP, parts


def chart(summaries):
    """SVG of the machine that was measured last."""
    latest = max(summaries, key=lambda entry: entry[1])[0] if summaries else None
    y, parts = 4, []
    for question, _, answers in summaries:
        if (question.machine, question.threads) == (latest.machine, latest.threads):
            y, drawn = group(y, question, answers)
            parts += drawn
    foot = f"{latest.machine}; {latest.threads} threads; longer is faster" if latest else NOTHING
    parts.append(text(0, y + 10, foot))
    height = y + 20
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'role="img" aria-label="Speed of mlx-flash and others" font-family="system-ui, sans-serif" font-size="13">',
        *parts, "</svg>", ""])
