"""mlx-flash run on the demo model: its tokens, its flags, its streams."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support import (
    BINARY,
    CANCELLED,
    IO,
    MODEL,
    NO_BUDGET,
    OK,
    TIMEOUT,
    USAGE,
    check_stats,
    flash,
    flash_json,
    goldens,
    run_greedy,
    temporary_file,
)

# Below this distance between the two best logits, another order of summation
# may rightly pick the other token (goldens.json says so).
SURE_MARGIN = 0.002
STORY = "Once upon a time"


class Goldens(unittest.TestCase):
    def check(self, golden, result):
        expected = golden["fp32"]["greedy_ids"]
        margins = golden["fp32"]["margin"]
        sure = next(
            (i for i, margin in enumerate(margins) if margin < SURE_MARGIN),
            len(margins),
        )
        self.assertGreater(sure, 8)
        self.assertEqual(result["tokens"][:sure], expected[:sure])
        self.assertEqual(result["prompt_tokens"], len(golden["ids"]))
        if sure == len(expected):
            self.assertEqual(result["text"], golden["fp32"]["greedy_text"])

    def test_greedy_tokens_from_text(self):
        for golden in goldens():
            with self.subTest(golden["text"]):
                raw = ["--raw"] if golden["kind"] == "plain" else []
                flags = [*raw, "--max-tokens", "64", "--precision", "f32"]
                result = run_greedy(golden["text"], *flags)
                self.check(golden, result)
                self.assertEqual(result["finish_reason"], "length")

    def test_greedy_tokens_from_ids_streamed_with_few_slots(self):
        golden = goldens()[3]
        ids = temporary_file(self, golden["ids"])
        flags = ["--max-tokens", "64", "--slots", "8", "--precision", "f32"]
        result = run_greedy("--ids", ids, *flags)
        self.check(golden, result)
        self.assertEqual(result["stats"]["slots"], 8)
        self.assertGreater(result["stats"]["expert_misses"], 0)
        self.assertGreater(result["stats"]["bytes_read_demand"], 0)


class Shape(unittest.TestCase):
    def test_the_json_object(self):
        result = run_greedy(STORY, "--raw", "--max-tokens", "5", "--threads", "1")
        self.assertEqual(
            set(result),
            {"text", "prompt_tokens", "tokens", "finish_reason", "seed", "stats"},
        )
        self.assertEqual(len(result["tokens"]), 5)
        self.assertEqual(result["stats"]["precision"], "int8")
        check_stats(self, result["stats"])
        stats = result["stats"]
        self.assertEqual(stats["prefill_tokens"], result["prompt_tokens"])
        self.assertEqual(stats["threads"], 1)
        self.assertEqual(stats["device"], "cpu")
        self.assertIn(stats["reader"], ("uring", "pread"))
        self.assertEqual(stats["policy"], "efd")
        self.assertLessEqual(stats["planned_bytes"], stats["budget_bytes"])
        self.assertLessEqual(stats["peak_bytes"], stats["budget_bytes"])
        self.assertGreater(stats["bytes_read_load"], 0)

    def test_flags_reach_the_engine(self):
        ask = [STORY, "--raw", "--max-tokens", "5"]
        stats = run_greedy(
            *ask, "--reader", "pread", "--cache-policy", "lru", "--slots", "9"
        )["stats"]
        self.assertEqual(stats["reader"], "pread")
        self.assertEqual(stats["policy"], "lru")
        self.assertEqual(stats["slots"], 9)
        stats = run_greedy(*ask, "--resident")["stats"]
        self.assertEqual(stats["policy"], "resident")
        stats = run_greedy(*ask, "--ram", "900MB")["stats"]
        self.assertEqual(stats["budget_bytes"], 900_000_000)

    def test_text_goes_to_stdout_and_status_to_stderr(self):
        flags = [STORY, "--raw", "--temp", "0", "--max-tokens", "20"]
        expected = flash_json("run", MODEL, *flags, "--quiet")["text"]
        result = flash("run", MODEL, *flags)
        self.assertEqual(result.code, OK)
        self.assertEqual(result.out, expected + "\n")
        self.assertIn("tiny-tales-moe", result.err)
        self.assertIn("tok/s", result.err)
        self.assertNotIn("\033", result.err)
        self.assertNotIn("\r", result.err)

    def test_stats_go_to_a_file_beside_the_text(self):
        path = temporary_file(self, "")
        flags = [STORY, "--raw", "--temp", "0", "--max-tokens", "12", "--quiet"]
        result = flash("run", MODEL, *flags, "--stats", path)
        self.assertEqual(result.code, OK, result)
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(result.out, report["text"] + "\n")
        self.assertEqual(len(report["tokens"]), 12)
        check_stats(self, report["stats"])
        folder = os.path.dirname(os.path.abspath(__file__))
        refused = flash("run", MODEL, *flags, "--stats", folder)
        self.assertEqual(refused.code, IO, refused)
        self.assertIn(folder, refused.err)

    def test_stats_go_through_a_pipe(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = os.path.join(folder, "pipe")
            os.mkfifo(pipe)
            with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
                result = flash("run", MODEL, "hi", "--max-tokens", "3", "--stats", pipe)
                self.assertEqual(result.code, OK, result)
                out, _ = reader.communicate(timeout=TIMEOUT)
            self.assertEqual(len(json.loads(out)["tokens"]), 3)

    def test_a_stats_file_that_cannot_be_written_is_told_at_once(self):
        result = flash("run", MODEL, "hi", "--stats", "/nonexistent/stats.json")
        self.assertEqual(result.code, IO)
        self.assertEqual(result.out, "")

    def test_quiet_is_quiet(self):
        result = flash(
            "run", MODEL, STORY, "--raw", "--max-tokens", "3", "--quiet"
        )
        self.assertEqual(result.code, OK)
        self.assertEqual(result.err, "")


class Prompts(unittest.TestCase):
    def test_a_prompt_on_stdin(self):
        flags = ["--raw", "--max-tokens", "8"]
        expected = run_greedy(STORY, *flags)["tokens"]
        for arguments, stdin in (
            ([], STORY),
            ([], STORY + "\n"),
            (["-"], STORY + "\n"),
        ):
            result = run_greedy(*arguments, *flags, stdin=stdin)
            self.assertEqual(result["tokens"], expected)

    def test_the_chat_template_and_the_system_message(self):
        ask = ["Tell me a story.", "--max-tokens", "4"]
        chat = run_greedy(*ask)
        raw = run_greedy(*ask, "--raw")
        system = run_greedy(*ask, "--system", "You are a bear.")
        self.assertGreater(chat["prompt_tokens"], raw["prompt_tokens"])
        self.assertGreater(system["prompt_tokens"], chat["prompt_tokens"])
        rendered = (
            "<|im_start|>user\nTell me a story.<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        ids = flash_json("tokenize", MODEL, rendered)["ids"]
        self.assertEqual(chat["prompt_tokens"], len(ids))
        again = run_greedy(
            "--ids", temporary_file(self, ids), "--max-tokens", "4"
        )
        self.assertEqual(again["tokens"], chat["tokens"])

    def test_a_prompt_that_begins_with_a_dash(self):
        path = temporary_file(self, "--once")
        ids = flash_json("tokenize", MODEL, "--file", path)["ids"]
        result = flash(
            "run", MODEL, "--max-tokens", "2", "--raw", "--json", "--", "--once"
        )
        self.assertEqual(result.code, OK, result)
        self.assertEqual(json.loads(result.out)["prompt_tokens"], len(ids))


class Ends(unittest.TestCase):
    def test_stop_strings_end_the_text_before_them(self):
        flags = [STORY, "--raw", "--max-tokens", "64"]
        full = run_greedy(*flags)["text"]
        words = full.split(" ")
        stop = " ".join(words[6:8])
        expected = full[: full.index(stop)]
        result = run_greedy(*flags, "--stop", "never there", "--stop", stop)
        self.assertEqual(result["text"], expected)
        self.assertEqual(result["finish_reason"], "stop")
        self.assertLess(len(result["tokens"]), 64)
        streamed = flash(
            "run", MODEL, *flags, "--temp", "0", "--quiet", "--stop", stop
        )
        self.assertEqual(streamed.out, expected + "\n")

    def test_stop_ids_end_the_text_before_them(self):
        whole = run_greedy("--raw", STORY, "--max-tokens", "12")
        stop = whole["tokens"][5]
        cut = whole["tokens"].index(stop)
        result = run_greedy(
            "--raw", STORY, "--max-tokens", "12", "--stop-id", stop
        )
        self.assertEqual(result["tokens"], whole["tokens"][:cut])
        self.assertEqual(result["finish_reason"], "stop")

    def test_the_models_end_tokens(self):
        flags = ["Tell me a story.", "--max-tokens", "600"]
        ended = run_greedy(*flags)
        self.assertEqual(ended["finish_reason"], "stop")
        self.assertLess(len(ended["tokens"]), 600)
        self.assertNotIn(2, ended["tokens"])
        count = len(ended["tokens"])
        further = run_greedy(
            *flags[:1], "--ignore-eos", "--max-tokens", str(count + 20)
        )
        self.assertEqual(further["finish_reason"], "length")
        self.assertEqual(len(further["tokens"]), count + 20)
        self.assertEqual(further["tokens"][:count], ended["tokens"])

    def test_a_context_that_is_full(self):
        result = run_greedy(STORY, "--raw", "--ctx", "12", "--max-tokens", "100")
        self.assertEqual(result["finish_reason"], "length")
        self.assertLess(len(result["tokens"]), 12)


class Sampling(unittest.TestCase):
    ask = [STORY, "--raw", "--max-tokens", "24", "--quiet"]

    def tokens(self, *flags):
        return flash_json("run", MODEL, *self.ask, *flags)["tokens"]

    def test_a_seed_repeats_and_another_differs(self):
        first = self.tokens("--temp", "1", "--seed", "1")
        self.assertEqual(first, self.tokens("--temp", "1", "--seed", "1"))
        self.assertEqual(
            first, self.tokens("--temp", "1", "--seed", "1", "--slots", "10")
        )
        self.assertNotEqual(first, self.tokens("--temp", "1", "--seed", "2"))

    def test_without_a_seed_runs_differ_and_say_their_seed(self):
        first = flash_json("run", MODEL, *self.ask, "--temp", "1")
        second = flash_json("run", MODEL, *self.ask, "--temp", "1")
        self.assertNotEqual(first["seed"], second["seed"])
        self.assertEqual(
            first["tokens"],
            self.tokens("--temp", "1", "--seed", str(first["seed"])),
        )

    def test_top_k_1_is_greedy_without_the_models_penalty(self):
        greedy = run_greedy(*self.ask[:-1])["tokens"]
        self.assertEqual(
            greedy, self.tokens("--top-k", "1", "--repeat-penalty", "1")
        )

    def test_temperature_0_uses_none_of_the_models_defaults(self):
        # The model has a repetition penalty; this shows that it matters.
        greedy = run_greedy(*self.ask[:-1])["tokens"]
        penalised = run_greedy(*self.ask[:-1], "--repeat-penalty", "1.8")["tokens"]
        self.assertNotEqual(greedy, penalised)
        self.assertEqual(greedy, goldens()[0]["fp32"]["greedy_ids"][:24])

    def test_a_json_schema_from_a_pipe(self):
        schema = '{"type": "object", "properties": {"a": {"type": "boolean"}},'
        schema += ' "required": ["a"], "additionalProperties": false}'
        flags = ["--temp", "0", "--max-tokens", "40", "--json-schema", "-"]
        result = flash("run", MODEL, "hi", *flags, "--quiet", stdin=schema)
        self.assertEqual(result.code, OK, result)
        self.assertIsInstance(json.loads(result.out)["a"], bool)
        result = flash("run", MODEL, *flags, stdin=schema)
        self.assertEqual(result.code, USAGE)

    def test_a_json_schema_shapes_the_answer(self):
        schema = {
            "type": "object",
            "properties": {
                "good": {"type": "boolean"},
                "name": {"enum": ["Lily", "Tim"]},
            },
            "required": ["good", "name"],
            "additionalProperties": False,
        }
        result = run_greedy(
            "Tell me a story.",
            "--json-schema",
            temporary_file(self, schema),
            "--max-tokens",
            "64",
        )
        answer = json.loads(result["text"])
        self.assertIsInstance(answer["good"], bool)
        self.assertIn(answer["name"], ("Lily", "Tim"))
        self.assertEqual(result["finish_reason"], "stop")


class Memory(unittest.TestCase):
    def test_too_little_is_refused_with_the_smallest_that_works(self):
        ask = ["--raw", "--max-tokens", "16", "--temp", "0", "--quiet"]
        refused = flash("run", MODEL, STORY, *ask, "--memory", "1MB")
        self.assertEqual(refused.code, NO_BUDGET, refused)
        self.assertEqual(refused.out, "")
        found = re.search(r"at least (\d+) bytes", refused.err)
        self.assertIsNotNone(found, refused.err)
        smallest = int(found.group(1))

        result = flash_json("run", MODEL, STORY, *ask, "--memory", smallest)
        stats = result["stats"]
        self.assertEqual(stats["budget_bytes"], smallest)
        self.assertEqual(
            result["tokens"], goldens()[0]["fp32"]["greedy_ids"][:16]
        )
        below = flash("run", MODEL, STORY, *ask, "--memory", smallest - 1)
        self.assertEqual(below.code, NO_BUDGET, below)

    def test_less_memory_means_fewer_slots_and_the_same_tokens(self):
        ask = [STORY, "--raw", "--max-tokens", "16"]
        plan = flash("plan", MODEL, "--ctx", "20", "--memory", "1MB", "--json")
        smallest = json.loads(plan.out)["smallest_budget_bytes"]
        small = run_greedy(*ask, "--memory", smallest + 1_000_000)
        large = run_greedy(*ask, "--memory", smallest + 20_000_000)
        self.assertLess(small["stats"]["slots"], large["stats"]["slots"])
        self.assertGreater(
            small["stats"]["expert_misses"], large["stats"]["expert_misses"]
        )
        self.assertEqual(small["tokens"], large["tokens"])

    def test_checksums_are_compared(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "sums")
        written = flash("verify", MODEL, "--write-checksums", path)
        self.assertEqual(written.code, OK, written)
        ask = [STORY, "--raw", "--max-tokens", "4"]
        run_greedy(*ask, "--checksums", path)
        refused = flash(
            "run", MODEL, *ask, "--checksums", temporary_file(self, "{}")
        )
        self.assertNotEqual(refused.code, OK)


class Descriptors(unittest.TestCase):
    """Standard descriptors that are closed, as some supervisors leave them."""

    def run_with_closed(self, descriptors):
        closing = "".join(f" {n}{s}&-" for n, s in descriptors)
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" run "$1" hi --max-tokens 3{closing}',
             BINARY, MODEL],
            stdout=subprocess.PIPE, timeout=TIMEOUT,
        )

    def test_a_closed_input_is_an_empty_one(self):
        result = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0" run "$1" --raw --max-tokens 3 <&-',
             BINARY, MODEL],
            capture_output=True, timeout=TIMEOUT,
        )
        self.assertEqual(result.returncode, USAGE)
        self.assertIn(b"the prompt is empty", result.stderr)

    def test_closed_outputs_take_no_files_place(self):
        for descriptors in ([(0, "<"), (1, ">")], [(1, ">"), (2, ">")]):
            with self.subTest(descriptors):
                self.assertEqual(self.run_with_closed(descriptors).returncode, OK)


class Invariant6(unittest.TestCase):
    """Nothing is written during inference except what a flag asked for."""

    def test_a_run_leaves_no_file_behind(self):
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "model")
            shutil.copytree(MODEL, model)
            places = {name: os.path.join(folder, name) for name in ("home", "tmp", "here")}
            for place in places.values():
                os.mkdir(place)
            before = self.listing(folder)
            result = subprocess.run(
                [BINARY, "run", model, "hi", "--max-tokens", "4", "--slots", "8"],
                cwd=places["here"],
                env={"HOME": places["home"], "TMPDIR": places["tmp"]},
                capture_output=True,
                timeout=TIMEOUT,
            )
            self.assertEqual(result.returncode, OK, result.stderr)
            self.assertEqual(self.listing(folder), before)

    @staticmethod
    def listing(folder):
        files = {}
        for path, folders, names in os.walk(folder):
            for name in folders + names:
                status = os.stat(os.path.join(path, name))
                files[os.path.join(path, name)] = (status.st_size, status.st_mtime_ns)
        return files


class Log(unittest.TestCase):
    def test_levels_tell_more_and_more(self):
        def told(level):
            flags = ["--max-tokens", "3", "--temp", "0", "--log-level", level]
            return flash("run", MODEL, "hi", *flags).err

        self.assertNotIn("mlx-flash: ", told("warn"))
        self.assertRegex(told("info"), r"mlx-flash: info: \[engine\] loaded .* by")
        self.assertRegex(
            told("debug"), r"mlx-flash: debug: \[step\] 0 prompt and 1 decoded"
        )


class Signals(unittest.TestCase):
    def start(self, *flags):
        return subprocess.Popen(
            [BINARY, "run", MODEL, STORY, "--raw", "--ignore-eos", "--ctx", "1000"]
            + ["--max-tokens", "950", "--slots", "4", "--threads", "1", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def test_an_interrupt_ends_the_answer_in_good_order(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("--quiet")
            first = process.stdout.read(1)
            process.send_signal(number)
            rest, errors = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, CANCELLED, errors)
            self.assertEqual(errors, b"")
            self.assertTrue((first + rest).endswith(b"\n"))

    def test_an_interrupted_run_still_prints_its_json(self):
        process = self.start("--json")
        # From this line on an interrupt cancels the answer.
        self.assertIn(b"tiny-tales-moe", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, CANCELLED, errors)
        self.assertEqual(json.loads(output)["finish_reason"], "cancelled")


@unittest.skipUnless(sys.platform.startswith("linux"), "written for Linux ptys")
class Terminal(unittest.TestCase):
    """What a terminal gets, on a pseudo-terminal of 24 rows."""

    def on_terminal(self, *flags, stdout=None):
        import fcntl
        import pty
        import struct
        import termios

        controller, terminal = pty.openpty()
        size = struct.pack("HHHH", 24, 100, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        process = subprocess.Popen(
            [BINARY, "run", MODEL, STORY, "--raw", "--temp", "0", *flags],
            stdin=subprocess.DEVNULL,
            stdout=stdout or terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(terminal)
        output = b""
        while True:
            try:
                piece = os.read(controller, 65536)
            except OSError:  # the last writer has gone
                break
            if not piece:
                break
            output += piece
        os.close(controller)
        self.assertEqual(process.wait(timeout=TIMEOUT), OK)
        return output.decode()

    def test_the_bottom_row_is_taken_and_given_back(self):
        output = self.on_terminal("--max-tokens", "40", "--slots", "8")
        self.assertIn("\033[1;23r", output)
        self.assertIn("\033[24;1H", output)
        self.assertIn("tok/s", output)
        given_back = output.rindex("\033[r")
        self.assertGreater(given_back, output.rindex("\033[1;23r"))
        self.assertIn("tok/s", output[given_back:])  # the summary

    def test_with_text_elsewhere_the_line_is_rewritten_in_place(self):
        with open(os.devnull, "w") as elsewhere:
            output = self.on_terminal("--max-tokens", "40", stdout=elsewhere)
        self.assertIn("\r\033[K", output)
        self.assertNotIn("r\0338", output)

    def test_quiet_leaves_the_text_alone(self):
        output = self.on_terminal("--max-tokens", "8", "--quiet")
        self.assertNotIn("\033", output)
        self.assertNotIn("tok/s", output)


if __name__ == "__main__":
    unittest.main()
