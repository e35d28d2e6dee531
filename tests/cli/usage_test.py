"""Help, exit codes and wrong use: what a shell and its user see."""

import os
import subprocess
import tempfile
import unittest

from support import (
    BINARY,
    IO,
    MODEL,
    NO_MODEL,
    OK,
    SOURCE,
    USAGE,
    flash,
    temporary_file,
)

COMMANDS = ["run", "score", "plan", "tokenize", "template", "verify", "bench"]


class Usage(unittest.TestCase):
    def check_error(self, result, code, *parts):
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.out, "", result)
        self.assertRegex(result.err, r"\Amlx-flash: [^\n]+\n\Z")
        for part in parts:
            self.assertIn(part, result.err)


class Help(Usage):
    def test_the_list_of_commands(self):
        for flag in ("--help", "-h"):
            result = flash(flag)
            self.assertEqual(result.code, OK, result)
            self.assertEqual(result.err, "")
            for command in COMMANDS:
                self.assertIn(f"  {command} ", result.out)
            self.assertIn("Exit codes:", result.out)

    def test_every_command_has_flags_examples_and_exit_codes(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = flash(command, "--help")
                self.assertEqual(result.code, OK, result)
                self.assertEqual(result.err, "")
                self.assertIn(f"mlx-flash {command} ", result.out)
                for part in ("--help", "Examples:", "Exit codes:"):
                    self.assertIn(part, result.out)
                for line in result.out.splitlines():
                    self.assertLessEqual(len(line), 80, line)

    def test_help_names_every_flag_of_run(self):
        text = flash("run", "--help").out
        for flag in (
            "ids raw system memory ram slots threads reader policy cache-policy "
            "stats device ctx prefill-chunk max-tokens temp top-k top-p min-p "
            "repeat-penalty seed stop stop-id ignore-eos json-schema checksums resident "
            "json quiet log-level"
        ).split():
            self.assertRegex(text, rf"--{flag}\b")

    def test_help_is_a_command_too(self):
        self.assertEqual(flash("help").out, flash("--help").out)
        self.assertEqual(flash("help", "run").out, flash("run", "--help").out)

    def test_version(self):
        result = flash("--version")
        self.assertEqual(result.code, OK)
        self.assertRegex(result.out, r"\Amlx-flash \d+\.\d+\.\d+ \((unknown|[0-9a-f]{7,}(-dirty)?)\)\n\Z")

    def test_without_a_command_help_is_an_error(self):
        result = flash()
        self.assertEqual(result.code, USAGE)
        self.assertEqual(result.out, "")
        self.assertIn("Commands:", result.err)


class WrongFlags(Usage):
    def test_unknown_names_suggest_the_nearest(self):
        self.check_error(flash("rnu"), USAGE, "'rnu'", "'run'")
        self.check_error(flash("verfy", MODEL), USAGE, "'verify'")
        self.check_error(flash("sevre"), USAGE, "'sevre'", "'serve'")
        self.check_error(flash("--verison"), USAGE, "'--version'")
        self.check_error(
            flash("run", MODEL, "x", "--max-token", "5"), USAGE, "'--max-tokens'"
        )
        self.check_error(flash("plan", MODEL, "--memroy=1GB"), USAGE, "'--memory'")
        self.check_error(flash("run", MODEL, "x", "--zzzzzz"), USAGE, "'--zzzzzz'")
        # A flag that has no effect on a command is unknown there.
        self.check_error(flash("plan", MODEL, "--checksums", "x"), USAGE)
        self.check_error(flash("plan", MODEL, "--device", "gpu"), USAGE)
        # Behind "--" there are no flags, so none is suggested.
        self.check_error(
            flash("run", MODEL, "--", "hi", "--json"), USAGE, "unexpected"
        )

    def test_values_that_do_not_fit(self):
        for flags, part in (
            (["--slots", "0"], "--slots"),
            (["--slots", "-1"], "--slots"),
            (["--slots", "many"], "--slots"),
            (["--threads", "0"], "--threads"),
            (["--ctx", "1.5"], "--ctx"),
            (["--max-tokens", "0"], "--max-tokens"),
            (["--max-tokens"], "--max-tokens"),
            (["--temp", "warm"], "--temp"),
            (["--temp", "-1"], "temperature"),
            (["--top-p", "2"], "top_p"),
            (["--top-k", "-3"], "--top-k"),
            (["--min-p", "1.5"], "min_p"),
            (["--repeat-penalty", "0"], "repetition_penalty"),
            (["--seed", "-1"], "--seed"),
            (["--seed", "1", "--seed", "2"], "--seed"),
            (["--reader", "mmap"], "auto|uring|pread"),
            (["--policy", "fifo"], "efd|lru"),
            (["--device", "tpu"], "cpu|gpu"),
            (["--log-level", "loud"], "error|warn|info|debug"),
            (["--memory", "lots"], "lots"),
            (["--memory", "-1GB"], "-1GB"),
            (["--memory", "200%"], "200%"),
            (["--stop", ""], "stop"),
            (["--json=yes"], "--json"),
            (["--stop-id", "-3"], "--stop-id"),
            (["--temp", "0", "--top-p", "0.5"], "--top-p has no effect"),
            (["--json-schema", os.devnull], "is empty"),
            (["--json-schema", "/nonexistent.json"], "/nonexistent.json"),
            (["--resident", "--slots", "8"], "--resident"),
        ):
            with self.subTest(flags):
                result = flash("run", MODEL, "x", *flags, "--quiet")
                self.check_error(result, USAGE, part)

    def test_combinations_that_contradict_each_other(self):
        ids = temporary_file(self, [1, 2, 3])
        self.check_error(flash("run", MODEL, "hi", "--ids", ids), USAGE, "--ids")
        self.check_error(
            flash("run", MODEL, "--ids", ids, "--system", "x"), USAGE, "--system"
        )
        self.check_error(
            flash("run", MODEL, "hi", "--raw", "--system", "x"), USAGE, "--system"
        )
        self.check_error(flash("run", MODEL, "a", "b"), USAGE, "'b'")
        self.check_error(flash("run"), USAGE, "MODEL")
        self.check_error(flash("score", MODEL), USAGE, "--text", "--ids")
        self.check_error(
            flash("score", MODEL, "--ids", ids, "--text", ids), USAGE, "--text"
        )
        self.check_error(flash("tokenize", "--json"), USAGE, "MODEL")
        self.check_error(flash("tokenize", MODEL, "--decode"), USAGE, "--ids")
        self.check_error(flash("tokenize", MODEL, "--ids", ids), USAGE, "--decode")
        self.check_error(
            flash("tokenize", MODEL, "text", "--file", ids), USAGE, "--file"
        )
        self.check_error(flash("template", MODEL), USAGE, "--context")
        self.check_error(flash("template", "--context", ids), USAGE, "MODEL")
        self.check_error(
            flash("template", MODEL, "--template", ids, "--context", ids),
            USAGE,
            "--template",
        )


class WrongInputs(Usage):
    def test_json_that_is_nested_without_end(self):
        deep = "[" * 300000 + "]" * 300000
        context = temporary_file(self, '{"messages": ' + deep + "}")
        schema = temporary_file(self, '{"enum": ' + deep + "}")
        self.check_error(
            flash("template", MODEL, "--context", context), USAGE, "nested"
        )
        self.check_error(
            flash("run", MODEL, "x", "--json-schema", schema, "--quiet"),
            USAGE,
            "nested",
        )

    def test_text_output_of_a_model_without_a_tokenizer(self):
        model = os.path.join(SOURCE, "tests", "data", "parity", "f32")
        ids = temporary_file(self, [1, 2, 3])
        result = flash("run", model, "--ids", ids, "--quiet")
        self.check_error(result, USAGE, "no tokenizer.json", "--json")
        result = flash("score", model, "--ids", ids, "--top", "2", "--quiet")
        self.assertEqual(result.code, OK, result)
        self.assertRegex(result.out, r"\A +1  2 ")

    def test_ids_that_are_none(self):
        for content in (
            "",
            "[1, 2",
            "7",
            "{}",
            "[-1]",
            "[1.5]",
            "[1e3]",
            '["1"]',
            "[[1]]",
            "[null]",
            "[4294967296]",
            "[1e999]",
            "[" * 100000,
            b"\xff\xfe",
        ):
            with self.subTest(content[:20]):
                path = temporary_file(self, content)
                self.check_error(flash("run", MODEL, "--ids", path), USAGE, path)
                self.check_error(flash("score", MODEL, "--ids", path), USAGE, path)

    def test_an_id_outside_the_vocabulary(self):
        path = temporary_file(self, [1, 4096])
        for command in ("run", "score"):
            result = flash(command, MODEL, "--ids", path, "--quiet")
            self.check_error(result, USAGE, "4096")
        self.check_error(
            flash("tokenize", MODEL, "--decode", "--ids", path), USAGE, "4096"
        )

    def test_an_empty_prompt(self):
        self.check_error(flash("run", MODEL, "", "--raw"), USAGE, "empty")
        self.check_error(flash("run", MODEL, "--raw"), USAGE, "empty")
        self.check_error(
            flash("run", MODEL, "--ids", temporary_file(self, [])), USAGE, "empty"
        )
        self.check_error(
            flash("score", MODEL, "--ids", temporary_file(self, [5])), USAGE, "2"
        )

    def test_text_that_is_not_utf8(self):
        path = temporary_file(self, b"caf\xe9")
        self.check_error(flash("tokenize", MODEL, "--file", path), USAGE)
        self.check_error(flash("score", MODEL, "--text", path), USAGE)

    def test_contexts_that_are_none(self):
        for content in ("", "[]", "{", '{"messages": 3}'):
            with self.subTest(content):
                path = temporary_file(self, content)
                self.check_error(flash("template", MODEL, "--context", path), USAGE)
        path = temporary_file(self, {"messages": []})
        self.check_error(
            flash("template", MODEL, "--context", path, "--now", "soon"),
            USAGE,
            "soon",
        )


class Models(Usage):
    def test_a_folder_that_is_not_there(self):
        for command in (
            ["run", "/nonexistent", "x"],
            ["plan", "/nonexistent"],
            ["verify", "/nonexistent"],
            ["bench", "/nonexistent"],
            ["tokenize", "/nonexistent", "x"],
        ):
            self.check_error(flash(*command), NO_MODEL, "/nonexistent")

    def test_a_folder_that_is_no_model(self):
        with tempfile.TemporaryDirectory() as folder:
            self.check_error(flash("plan", folder), NO_MODEL, folder)
            for name, text in (
                ("config.json", "{"),
                ("config.json", '{"model_type": "unheard_of"}'),
            ):
                with open(os.path.join(folder, name), "w") as file:
                    file.write(text)
                self.check_error(flash("plan", folder), NO_MODEL, folder)

    def test_a_damaged_weight_file(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
                os.symlink(os.path.join(MODEL, name), os.path.join(folder, name))
            weights = os.path.join(folder, "model.safetensors")
            for content in (b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}x"):
                with open(weights, "wb") as file:
                    file.write(content)
                self.check_error(flash("plan", folder), NO_MODEL, "model.safetensors")

    def test_a_tokenizer_that_is_none(self):
        path = temporary_file(self, "{}")
        self.check_error(flash("tokenize", "--tokenizer", path, "x"), NO_MODEL, path)


class Output(Usage):
    def test_a_reader_that_goes_ends_the_run_quietly(self):
        process = subprocess.Popen(
            [BINARY, "run", MODEL, "Once upon a time", "--raw", "--quiet"]
            + ["--ignore-eos", "--max-tokens", "900"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.assertTrue(process.stdout.read(1))
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=300), OK)
        self.assertEqual(errors, b"")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [BINARY, "tokenize", MODEL, "hello"],
                stdout=full,
                stderr=subprocess.PIPE,
            )
        self.assertEqual(process.returncode, IO)
        self.assertIn(b"mlx-flash: [stdout]", process.stderr)


if __name__ == "__main__":
    unittest.main()
