"""mlx-flash bench on the demo model: its measurements, its three outputs."""

import csv
import io
import re
import statistics
import unittest

from support import (
    MODEL,
    NO_BUDGET,
    NO_MODEL,
    OK,
    SANITIZED,
    USAGE,
    flash,
    flash_json,
)

QUICK = ["--prefill", "16", "--context", "0,32", "--tokens", "4", "--runs", "2"]
CASES = [("prefill", 0, 16), ("decode", 0, 4), ("decode", 32, 4)]

FIGURES = [
    "seconds",
    "tokens_per_second",
    "hit_rate",
    "bytes_read_per_token",
    "disk_gb_per_second",
    "disk_share",
    "stall_share",
    "memory_bytes_per_token",
    "memory_gb_per_second",
    "memory_share",
    "gflop_per_second",
]
COUNTERS = [
    "steps",
    "expert_hits",
    "expert_misses",
    "bytes_read",
    "stall_seconds",
    "memory_limit_gb_per_second",
]
FACTS = (
    "date model version commit build compiler cpu simd byte_dot system cpus threads "
    "precision reader policy device seed disk_limit_gb_per_second "
    "budget_bytes peak_bytes slots experts context_tokens prefill_chunk "
    "kind context tokens state run"
).split()

# The demo model's own arithmetic; src/engine/bench_work_test.cpp adds it up.
DENSE, EXPERTS, KV = 1_321_984, 1_327_104, 3168
ROW, HEAD, ATTENTION = 3_588_096, 1_048_576, 6144


def bench(*arguments):
    return flash_json("bench", MODEL, "--quiet", *arguments)


class Json(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.report = bench(*QUICK, "--slots", "24", "--threads", "1", "--seed", "7")

    def runs(self):
        for measurement in self.report["measurements"]:
            for run in [measurement["cold"], *measurement["warm_runs"]]:
                yield measurement, run

    def test_the_fields(self):
        report = self.report
        for name, fields in (
            (
                None,
                "date model model_type model_bytes build machine options engine "
                "speeds work start measurements notes",
            ),
            ("build", "version commit type compiler"),
            (
                "machine",
                "cpu simd byte_dot system cpus last_level_cache_bytes memory_total_bytes "
                "memory_free_bytes",
            ),
            (
                "options",
                "memory slots resident ctx prefill_chunk threads precision "
                "reader policy device checksums prefill context tokens runs seed",
            ),
            ("engine", "threads precision reader policy device"),
            (
                "speeds",
                "memory_gb_per_second memory_measured memory_buffer_bytes "
                "disk_gb_per_second disk_measured disk_read_bytes disk_depth",
            ),
            (
                "work",
                "dense_bytes expert_bytes kv_bytes row_parameters "
                "head_parameters attention_flops",
            ),
            ("start", "seconds runs"),
        ):
            with self.subTest(name):
                part = report if name is None else report[name]
                self.assertEqual(list(part), fields.split())
        for measurement in report["measurements"]:
            self.assertEqual(
                list(measurement),
                "kind context tokens budget_bytes budget_source planned_bytes "
                "peak_bytes slots slot_bytes experts context_tokens prefill_chunk "
                "cold warm warm_runs".split(),
            )
            self.assertEqual(list(measurement["cold"]), FIGURES + COUNTERS)
            self.assertEqual(list(measurement["warm"]), FIGURES)

    def test_what_was_asked_for_was_measured(self):
        report = self.report
        self.assertEqual(
            [(m["kind"], m["context"], m["tokens"]) for m in report["measurements"]],
            CASES,
        )
        for note in report["notes"]:
            self.assertNotRegex(note, "left out|instead")
        options = report["options"]
        self.assertEqual(options["prefill"], [16])
        self.assertEqual(options["context"], [0, 32])
        self.assertEqual(options["tokens"], 4)
        self.assertEqual(options["runs"], 2)
        self.assertEqual(options["seed"], 7)
        self.assertEqual(options["slots"], 24)
        self.assertIsNone(options["memory"])
        self.assertEqual(report["engine"]["threads"], 1)
        for measurement in report["measurements"]:
            self.assertEqual(measurement["slots"], 24)
            self.assertEqual(measurement["experts"], 192)
            self.assertEqual(len(measurement["warm_runs"]), 2)
            self.assertEqual(
                measurement["context_tokens"],
                measurement["context"] + measurement["tokens"],
            )
            self.assertLessEqual(
                measurement["peak_bytes"], measurement["budget_bytes"]
            )

    def test_the_machine_and_the_build(self):
        machine = self.report["machine"]
        self.assertGreaterEqual(machine["cpus"], 1)
        self.assertGreater(machine["memory_total_bytes"], 0)
        self.assertRegex(machine["simd"], r"\A[A-Z0-9_]+\Z")
        build = self.report["build"]
        version = flash("--version").out.split()[1]
        self.assertEqual(build["version"], version)
        self.assertRegex(build["commit"], r"\A(unknown|[0-9a-f]{7,}(-dirty)?)\Z")
        self.assertRegex(self.report["date"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")

    def test_the_speeds_are_the_best_of_two(self):
        speeds = self.report["speeds"]
        for name in ("memory", "disk"):
            measured = speeds[f"{name}_measured"]
            self.assertEqual(len(measured), 2)
            self.assertGreater(min(measured), 0)
            self.assertEqual(speeds[f"{name}_gb_per_second"], max(measured))

    def test_every_figure_follows_from_the_counters(self):
        report = self.report
        self.assertEqual(
            report["work"],
            {
                "dense_bytes": DENSE,
                "expert_bytes": EXPERTS,
                "kv_bytes": KV,
                "row_parameters": ROW,
                "head_parameters": HEAD,
                "attention_flops": ATTENTION,
            },
        )
        disk = report["speeds"]["disk_gb_per_second"]
        for measurement, run in self.runs():
            tokens = measurement["tokens"]
            decode = measurement["kind"] == "decode"
            first = measurement["context"] + 1
            attended = sum(range(first, first + tokens))
            seconds = run["seconds"]
            lookups = run["expert_hits"] + run["expert_misses"]
            flops = 2 * tokens * ROW + attended * ATTENTION
            flops += 2 * HEAD * (tokens if decode else 1)
            expected = {
                "seconds": seconds,
                "tokens_per_second": tokens / seconds,
                "hit_rate": run["expert_hits"] / lookups,
                "bytes_read_per_token": run["bytes_read"] / tokens,
                "disk_gb_per_second": run["bytes_read"] / seconds / 1e9,
                "disk_share": run["bytes_read"] / seconds / 1e9 / disk,
                "stall_share": run["stall_seconds"] / seconds,
                "gflop_per_second": flops / seconds / 1e9,
            }
            if decode:
                moved = DENSE + EXPERTS + KV * attended / tokens
                expected["memory_bytes_per_token"] = moved
                expected["memory_gb_per_second"] = moved * tokens / seconds / 1e9
                limit = run["memory_limit_gb_per_second"]
                self.assertGreater(limit, 0)
                expected["memory_share"] = moved * tokens / seconds / 1e9 / limit
                self.assertEqual(run["steps"], tokens)
                self.assertEqual(lookups, tokens * 6 * 4)
            for name in FIGURES:
                with self.subTest(name):
                    if name not in expected:
                        self.assertIsNone(run[name])
                    else:
                        self.assertAlmostEqual(
                            run[name], expected[name], delta=1e-9 * expected[name]
                        )

    def test_warm_is_the_median_of_the_warm_runs(self):
        for measurement in self.report["measurements"]:
            for name in FIGURES:
                values = [run[name] for run in measurement["warm_runs"]]
                spread = measurement["warm"][name]
                if None in values:
                    self.assertIsNone(spread)
                    continue
                self.assertAlmostEqual(
                    spread["median"],
                    statistics.median(values),
                    delta=1e-9 * max(values),
                )
                self.assertEqual(spread["min"], min(values))
                self.assertEqual(spread["max"], max(values))

    def test_a_start_for_each_measurement(self):
        runs = self.report["start"]["runs"]
        self.assertEqual(len(runs), len(CASES))
        for run in runs:
            self.assertGreater(run["seconds"], 0)
            self.assertGreater(run["bytes_read"], DENSE)
        self.assertEqual(
            self.report["start"]["seconds"]["median"],
            statistics.median(run["seconds"] for run in runs),
        )

    def test_the_cold_run_finds_nothing_in_memory(self):
        cold = self.report["measurements"][1]["cold"]
        self.assertGreaterEqual(cold["expert_misses"], 24)
        self.assertGreaterEqual(cold["bytes_read"], 24 * 55_296)


class Effects(unittest.TestCase):
    def test_the_seed_decides_what_is_read(self):
        def counters(seed):
            report = bench(
                "--prefill", "none", "--context", "8", "--tokens", "8", "--runs", "1",
                "--slots", "24", "--seed", seed,
            )
            measurement = report["measurements"][0]
            return [
                (run["expert_hits"], run["expert_misses"])
                for run in (measurement["cold"], measurement["warm_runs"][0])
            ]

        first = counters(1)
        self.assertEqual(first, counters(1))
        self.assertNotEqual(first, counters(2))

    def test_memory_decides_how_much_is_read(self):
        ask = ["--prefill", "none", "--context", "64", "--tokens", "16", "--runs", "1"]

        def warm(memory):
            measurement = bench(*ask, "--memory", memory)["measurements"][0]
            self.assertEqual(measurement["budget_source"], "--memory")
            if not SANITIZED:
                self.assertLessEqual(
                    measurement["peak_bytes"], measurement["budget_bytes"]
                )
            return measurement["warm_runs"][0]

        self.assertGreater(
            warm("10MB")["bytes_read"], warm("900MB")["bytes_read"]
        )

    def test_all_in_memory_reads_nothing(self):
        report = bench(*QUICK[:2], "--context", "none", "--runs", "1", "--resident")
        self.assertEqual(report["engine"]["policy"], "resident")
        run = report["measurements"][0]["warm_runs"][0]
        self.assertEqual(run["bytes_read"], 0)
        self.assertIsNone(run["hit_rate"])

    def test_the_usual_sizes_are_cut_to_the_models_context(self):
        report = bench("--runs", "1", "--prefill", "16")
        self.assertEqual(
            [(m["kind"], m["context"], m["tokens"]) for m in report["measurements"]],
            [("prefill", 0, 16)]
            + [("decode", context, 32) for context in (0, 512, 992)],
        )
        self.assertIn(
            "decode at 992 instead of decode at 4096: the context has 1024 tokens",
            report["notes"],
        )


class OtherOutputs(unittest.TestCase):
    def test_csv(self):
        result = flash("bench", MODEL, *QUICK, "--slots", "24", "--csv", "--quiet")
        self.assertEqual(result.code, OK, result)
        self.assertEqual(result.err, "")
        rows = list(csv.DictReader(io.StringIO(result.out), strict=True))
        self.assertEqual(list(rows[0]), FACTS + FIGURES + COUNTERS)
        self.assertEqual(len(rows), len(CASES) * (1 + 1 + 2))
        for row in rows:
            self.assertNotIn(None, row)
            self.assertEqual(row["slots"], "24")
            self.assertGreater(float(row["seconds"]), 0)
            self.assertGreater(int(row["bytes_read"]), -1)
        self.assertEqual(
            [(row["kind"], row["state"], row["run"]) for row in rows[:4]],
            [
                ("start", "cold", "0"),
                ("prefill", "cold", "0"),
                ("prefill", "warm", "1"),
                ("prefill", "warm", "2"),
            ],
        )
        for row in rows:
            if row["kind"] == "decode":
                self.assertAlmostEqual(
                    float(row["tokens_per_second"]) * float(row["seconds"]), 4, places=6
                )

    def test_a_table_for_people_and_lines_of_progress(self):
        result = flash("bench", MODEL, *QUICK, "--slots", "24")
        self.assertEqual(result.code, OK, result)
        for part in (
            "tiny-tales-moe",
            "GB/s",
            "start-up",
            "prefill 16",
            "decode at 0",
            "decode at 32",
            "24/192",
            "cold",
            "warm",
            "the median of 2",
        ):
            self.assertIn(part, result.out)
        self.assertIn("[1/3] prefill 16: start-up\n", result.err)
        self.assertIn("[3/3] decode at 32: start-up\n", result.err)
        self.assertNotIn("\033", result.err)


class WrongUse(unittest.TestCase):
    def check_error(self, result, code, *parts):
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.out, "", result)
        self.assertRegex(result.err, r"\Amlx-flash: [^\n]+\n\Z")
        for part in parts:
            self.assertIn(part, result.err)

    def test_flags_that_cannot_be_honoured(self):
        for flags, part in (
            (["--prefill", "0"], "--prefill"),
            (["--prefill", "16,"], "--prefill"),
            (["--prefill", "many"], "--prefill"),
            (["--context", "-1"], "--context"),
            (["--tokens", "0"], "--tokens"),
            (["--runs", "0"], "--runs"),
            (["--seed", "x"], "--seed"),
            (["--prefill", "2048"], "1024"),
            (["--context", "1000"], "992"),
            (["--tokens", "1025"], "--tokens"),
            (["--ctx", "100", "--prefill", "101"], "100"),
            (["--ctx", "2000"], "1024"),
            (["--prefill", "none", "--context", "none"], "nothing to measure"),
            (["--context", "none", "--tokens", "5"], "--tokens has no effect"),
            (["--json", "--csv"], "--csv"),
            (["--slots", "3"], "at least 4"),
            (["--resident", "--slots", "8"], "--resident"),
            (["--policy", "fifo"], "efd|lru"),
        ):
            with self.subTest(flags):
                self.check_error(flash("bench", MODEL, *flags), USAGE, part)
        self.check_error(flash("bench"), USAGE, "MODEL")
        self.check_error(flash("bench", MODEL, "extra"), USAGE, "'extra'")

    def test_too_little_memory_names_what_would_do(self):
        for flags in ([], ["--prefill", "16"], ["--prefill", "none", "--context", "9"]):
            with self.subTest(flags):
                result = flash("bench", MODEL, *flags, "--memory", "1MB")
                self.check_error(result, NO_BUDGET, "at least")
        smallest = int(re.search(r"at least (\d+) bytes", result.err).group(1))
        enough = bench(
            "--prefill", "none", "--context", "9", "--runs", "1", "--memory", smallest
        )
        self.assertEqual(enough["measurements"][0]["slots"], 4)

    def test_a_folder_that_is_no_model(self):
        self.check_error(flash("bench", "/nonexistent"), NO_MODEL, "/nonexistent")


if __name__ == "__main__":
    unittest.main()
