"""bench/report draws what the rows say, and bench/results's rules hold."""

import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

import support

report = support.load_script("bench", "report")
from rivals import PeersError, drawing, results

SCRIPT = pathlib.Path(support.ROOT, "bench", "report")
MACHINE = "Some Xeon, AVX-512 VNNI, 2 cores"


def row(engine, tok_s, seconds="", case="out-of-core", **others):
    return {"date": "2024-05-01T10:00:00", "commit": "abc", "machine": MACHINE, "case": case, "engine": engine,
            "model": "qwen3-30b-a3b", "router": "skew", "gguf_type": "q4_0", "memory": "8GB", "threads": "2", "tok_s": tok_s,
            "seconds": seconds, "version": f"{engine} 1.0", **others}


ROWS = [
    row("mlx-flash", 3.0), row("llama.cpp", 1.0), row("mlx-flash", 3.6), row("llama.cpp", 1.2),
    row("mlx-flash", 2.7), row("llama.cpp", 0.9),
    row("bigmoe", "", note="killed: out of memory"),
    row("mlx-flash", "", 4.0, case="ttft"), row("llama.cpp", "", 10.0, case="ttft"),
]


def summaries(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "results.csv")
        for entry in rows:
            results.append(path, entry)
        return results.summaries(results.read([path]))


class Summaries(unittest.TestCase):
    def test_medians_spread_and_ratios_are_those_of_the_rows(self):
        (_, _, answers), (_, _, firsts) = summaries(ROWS)
        self.assertEqual([answer.engine for answer in answers], ["mlx-flash", "llama.cpp", "bigmoe"])
        ours, theirs, killed = answers
        self.assertEqual((ours.median, ours.least, ours.most, ours.runs), (3.0, 2.7, 3.6, 3))
        self.assertAlmostEqual(ours.spread, 0.15)
        self.assertAlmostEqual(ours.speedup, 3.0)
        self.assertEqual(theirs.speedup, 1.0)
        self.assertEqual((killed.median, killed.note), (None, "killed: out of memory"))
        # Fewer seconds are faster.
        self.assertAlmostEqual(firsts[0].speedup, 2.5)

    def test_the_latest_session_counts_alone(self):
        newer = [row(engine, speed, date="2024-06-01T10:00:00")
                 for engine, speed in (("mlx-flash", 5.0), ("llama.cpp", 2.0), ("bigmoe", 1.0))]
        (_, date, answers), _ = summaries(ROWS + newer)
        self.assertEqual(date, "2024-06-01T10:00:00")
        self.assertEqual([answer.median for answer in answers], [5.0, 2.0, 1.0])

    def test_a_session_that_lacks_engines_replaces_none_that_has_them(self):
        old = [row(engine, 1.0) for engine in ("mlx-flash", "llama.cpp", "bigmoe")] * 5
        for engines in (("mlx-flash",), ("llama.cpp", "bigmoe"), ("mlx-flash", "llama.cpp")):
            newer = [row(engine, 9.0, date="2024-06-01T10:00:00") for engine in engines] * 9
            self.assertEqual(summaries(old + newer)[0][1], "2024-05-01T10:00:00", engines)

    def test_a_decode_without_a_rate_failed_whatever_its_seconds(self):
        (_, _, (ours, theirs)), = summaries([row("mlx-flash", 3.0), row("llama.cpp", "", 0.01)])
        self.assertEqual((theirs.median, theirs.failed, theirs.in_seconds), (None, 1, False))
        self.assertIsNone(ours.speedup)

    def test_an_aborted_session_replaces_none_with_enough_rounds(self):
        old = [row(engine, 1.0) for engine in ("mlx-flash", "llama.cpp")] * 5
        newer = [row(engine, 2.0, date="2024-06-01T10:00:00") for engine in ("mlx-flash", "llama.cpp")]
        self.assertEqual(summaries(old + newer * 4)[0][1], "2024-05-01T10:00:00")
        self.assertEqual(summaries(old + newer * 5)[0][1], "2024-06-01T10:00:00")

    def test_other_memory_router_weights_and_machine_are_other_questions(self):
        for change in ({"memory": "4GB"}, {"gguf_type": "q4_k"}, {"router": "uniform"}, {"machine": "Other"}, {"model": "qwen3-8b"}):
            self.assertEqual(len(summaries([*ROWS, row("mlx-flash", 9.0, **change)])), 3)

    def test_without_llama_cpp_there_is_no_ratio(self):
        ((_, _, (answer,)),) = summaries([row("mlx-flash", 3.0)])
        self.assertIsNone(answer.speedup)

    def test_files_of_other_columns_and_broken_numbers_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "other.csv")
            path.write_text("date,commit\n1,2\n")
            for use in (lambda: results.read([path]), lambda: results.append(path, ROWS[0])):
                with self.assertRaisesRegex(PeersError, "other.csv: its columns"):
                    use()
        with self.assertRaisesRegex(PeersError, "tok_s is 'fast'"):
            summaries([row("mlx-flash", "fast")])
        with self.assertRaisesRegex(PeersError, "memory: 'much' is no size"):
            summaries([row("mlx-flash", 1.0, memory="much")])


class Drawing(unittest.TestCase):
    def test_the_table_has_a_line_for_each_question(self):
        lines = drawing.table(summaries(ROWS)).splitlines()
        self.assertTrue(lines[0].startswith(f"{MACHINE}; 2 threads."))
        self.assertEqual(lines[2], "| model | case | memory | mlx-flash | llama.cpp | BigMoeOnEdge (serial) | runs | date |")
        self.assertIn("| 8GB | 3.00 tok/s ±15 %, **3.00x** | 1.00 tok/s ±15 % | killed: out of memory | 3 |",
                      lines[4])
        self.assertIn("| 4.00 s ±0 %, **2.50x** | 10.00 s ±0 % |  | 1 |", lines[5])
        self.assertEqual(len({line.count("|") for line in lines[2:6]}), 1)
        self.assertEqual(lines[6:], [
            "", "mlx-flash: mlx-flash 1.0; llama.cpp: llama.cpp 1.0; BigMoeOnEdge (serial): bigmoe 1.0."])

    def test_lines_of_other_versions_are_told(self):
        rows = [row("mlx-flash", 3.0), row("llama.cpp", 1.0), row("mlx-flash", 4.0, memory="4GB", version="mlx-flash 2.0"),
                row("llama.cpp", 1.0, memory="4GB"), row("mlx-flash", 5.0, memory="12GB", version="mlx-flash 2.0")]
        self.assertIn("\nmlx-flash: mlx-flash 2.0 in lines 1 3, mlx-flash 1.0 in line 2; llama.cpp: llama.cpp 1.0.",
                      drawing.table(summaries(rows)))

    def test_a_run_that_failed_is_told_beside_those_that_did_not(self):
        rows = [row("mlx-flash", 3.0), *[row("mlx-flash", "", note="killed: out of memory")] * 2]
        told = "3.00 tok/s (2 of 3 failed: killed: out of memory)"
        self.assertIn(told, drawing.table(summaries(rows)))
        self.assertIn(told, drawing.chart(summaries(rows)))

    def test_cases_and_memory_come_in_their_order(self):
        rows = [row("mlx-flash", 1.0, memory=memory) for memory in ("12GB", "4GB", "900MB")]
        found = [question.memory for question, _, _ in summaries([*rows, row("mlx-flash", 1.0, case="prefill-512")])]
        self.assertEqual(found, ["8GB", "900MB", "4GB", "12GB"])

    def test_the_chart_is_xml_with_bars_as_long_as_the_speeds(self):
        root = ElementTree.fromstring(drawing.chart(summaries(ROWS)))
        bars = [float(bar.get("width")) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
        self.assertEqual(len(bars), 5)
        self.assertAlmostEqual(bars[1] / bars[0], 1 / 3, delta=0.01)
        self.assertAlmostEqual(bars[4] / bars[3], 0.4, delta=0.01)
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("3.00 tok/s, 3.00x", texts)
        self.assertIn("killed: out of memory", texts)

    def test_nothing_measured_is_said(self):
        self.assertEqual(drawing.table([]), "Nothing has been measured yet.")
        ElementTree.fromstring(drawing.chart([]))


class Script(unittest.TestCase):
    def run_script(self, folder, document):
        path, chart = pathlib.Path(folder, "doc.md"), pathlib.Path(folder, "images", "speed.svg")
        path.write_text(document)
        for entry in ROWS:
            results.append(pathlib.Path(folder, "rows.csv"), entry)
        done = subprocess.run([sys.executable, "-B", SCRIPT, f"{folder}/rows.csv", "--write", "--document", path,
                               "--chart", chart], capture_output=True, text=True)
        return done, path.read_text(), chart

    def test_it_writes_between_the_marks_and_nowhere_else(self):
        with tempfile.TemporaryDirectory() as folder:
            document = f"# Speed\n\n{report.BEGIN}\nold\n{report.END}\n\nMore.\n"
            done, text, chart = self.run_script(folder, document)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(text.startswith(f"# Speed\n\n{report.BEGIN}\n{MACHINE}"))
            self.assertTrue(text.endswith(f".\n{report.END}\n\nMore.\n"))
            self.assertNotIn("old", text)
            self.assertTrue(chart.is_file())

    def test_a_document_without_marks_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            done, text, chart = self.run_script(folder, "# Speed\n")
            self.assertEqual((done.returncode, text), (1, "# Speed\n"))
            self.assertIn("lacks the lines", done.stderr)
            self.assertFalse(chart.exists())

    def test_the_projects_own_document_has_the_marks(self):
        text = pathlib.Path(support.ROOT, "docs", "performance.md").read_text(encoding="utf-8")
        self.assertEqual(report.with_block(text, "x", "performance.md").count("x\n" + report.END), 1)


if __name__ == "__main__":
    unittest.main()
