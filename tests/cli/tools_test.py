"""score, plan, tokenize, template and verify on the demo model."""

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from support import (
    BINARY,
    FAILED,
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

TOKENIZER = os.path.join(MODEL, "tokenizer.json")


class Score(unittest.TestCase):
    def test_the_json_object(self):
        golden = goldens()[1]
        path = temporary_file(self, golden["ids"])
        result = flash_json("score", MODEL, "--ids", path, "--top", "5")
        self.assertEqual(
            set(result), {"ids", "logprobs", "top", "perplexity", "stats"}
        )
        check_stats(self, result["stats"])
        self.assertEqual(result["ids"], golden["ids"])
        count = len(golden["ids"]) - 1
        self.assertEqual(len(result["logprobs"]), count)
        self.assertEqual(len(result["top"]), count)
        mean = sum(result["logprobs"]) / count
        self.assertAlmostEqual(
            result["perplexity"] / math.exp(-mean), 1, places=9
        )
        for token, logprob, top in zip(
            result["ids"][1:], result["logprobs"], result["top"]
        ):
            self.assertEqual(len(top), 5)
            values = [value for _, value in top]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(logprob, values[0])
            self.assertLess(sum(math.exp(v) for v in values), 1 + 1e-9)
            for candidate, value in top:
                if candidate == token:
                    self.assertEqual(value, logprob)

    def test_the_best_tokens_are_the_recorded_ones(self):
        for golden in goldens():
            fp32 = golden["fp32"]
            ids = golden["ids"] + fp32["greedy_ids"][:1]
            flags = ["--top", "5", "--precision", "f32"]
            result = flash_json(
                "score", MODEL, "--ids", temporary_file(self, ids), *flags
            )
            top = result["top"][-1]
            recorded = fp32["top5"]
            self.assertEqual(top[0][0], recorded[0][0])
            self.assertEqual({i for i, _ in top}, {i for i, _ in recorded})
            logprobs = dict((i, value) for i, value in top)
            for token, logit in recorded:
                self.assertAlmostEqual(
                    logprobs[token] - top[0][1],
                    logit - recorded[0][1],
                    delta=2e-3,
                )

    def test_text_is_tokenised_as_tokenize_does(self):
        text = "Once upon a time, there was a cat.\n"
        path = temporary_file(self, text)
        ids = flash_json("tokenize", MODEL, "--file", path)["ids"]
        result = flash_json("score", MODEL, "--text", path)
        self.assertEqual(result["ids"], ids)
        self.assertEqual(result["top"], [])
        piped = flash_json("score", MODEL, "--text", "-", stdin=text)
        self.assertEqual(piped["logprobs"], result["logprobs"])

    def test_slots_change_no_bit(self):
        path = temporary_file(self, goldens()[4]["ids"])
        expected = flash_json("score", MODEL, "--ids", path, "--resident")
        streamed = flash_json(
            "score", MODEL, "--ids", path, "--slots", "4", "--prefill-chunk", "7"
        )
        self.assertEqual(streamed["logprobs"], expected["logprobs"])

    def test_a_table_for_people(self):
        path = temporary_file(self, goldens()[0]["ids"])
        result = flash("score", MODEL, "--ids", path, "--quiet")
        self.assertEqual(result.code, OK)
        self.assertRegex(result.out, r"\Aperplexity [\d.]+ over 3 tokens\n\Z")
        result = flash("score", MODEL, "--ids", path, "--top", "2", "--quiet")
        self.assertEqual(len(result.out.splitlines()), 4)


class Plan(unittest.TestCase):
    FIELDS = {
        "model",
        "model_type",
        "model_bytes",
        "budget_bytes",
        "budget_source",
        "accounts",
        "planned_bytes",
        "fits",
        "smallest_budget_bytes",
        "full_budget_bytes",
        "slots",
        "slot_bytes",
        "experts",
        "experts_per_token",
        "expert_layers",
        "context_tokens",
        "model_context",
        "prefill_chunk",
    }

    def test_the_json_object(self):
        plan = flash_json("plan", MODEL, "--memory", "900MB", "--ctx", "77")
        self.assertEqual(set(plan), self.FIELDS)
        self.assertEqual(plan["model_type"], "qwen3_moe")
        self.assertEqual(plan["experts"], 6 * 32)
        self.assertEqual(plan["experts_per_token"], 4)
        self.assertEqual(plan["expert_layers"], 6)
        self.assertEqual(plan["budget_bytes"], 900_000_000)
        self.assertGreaterEqual(plan["context_tokens"], 77)
        self.assertIs(plan["fits"], True)
        self.assertEqual(sum(plan["accounts"].values()), plan["planned_bytes"])
        self.assertLessEqual(plan["planned_bytes"], plan["budget_bytes"])
        self.assertLess(plan["smallest_budget_bytes"], plan["full_budget_bytes"])
        self.assertEqual(
            plan["model_bytes"],
            os.path.getsize(os.path.join(MODEL, "model.safetensors")),
        )

    def test_what_does_not_fit_is_told_with_its_own_exit_code(self):
        result = flash("plan", MODEL, "--memory", "1MB", "--json")
        self.assertEqual(result.code, NO_BUDGET, result)
        plan = json.loads(result.out)
        self.assertEqual(set(plan), self.FIELDS)
        self.assertIs(plan["fits"], False)
        smallest = plan["smallest_budget_bytes"]
        self.assertIn(str(smallest), result.err)
        self.assertTrue(
            flash_json("plan", MODEL, "--memory", smallest)["fits"]
        )
        below = flash("plan", MODEL, "--memory", smallest - 1)
        self.assertEqual(below.code, NO_BUDGET)

    def test_the_full_budget_holds_every_expert(self):
        plan = flash_json("plan", MODEL)
        full = plan["full_budget_bytes"]
        middle = (full + plan["smallest_budget_bytes"]) // 2
        plan = flash_json("plan", MODEL, "--memory", full)
        self.assertEqual(plan["slots"], plan["experts"])
        plan = flash_json("plan", MODEL, "--memory", middle)
        self.assertLess(plan["slots"], plan["experts"])

    def test_keys_and_values_in_f32_take_what_32_bits_take(self):
        flags = ["plan", MODEL, "--ctx", "640"]
        integers = flash_json(*flags)["accounts"]["kv_cache"]
        full = flash_json(*flags, "--precision", "f32")["accounts"]["kv_cache"]
        # 6 layers, keys and values, 2 heads of 64; integers have a scale beside each 64.
        self.assertEqual(integers, 640 * 6 * 2 * 2 * (64 * 2 + 4))
        self.assertEqual(full, 640 * 6 * 2 * 2 * 64 * 4)

    def test_a_run_has_the_budget_of_the_plan(self):
        plan = flash_json(
            "plan", MODEL, "--memory", "700MB", "--slots", "50", "--ctx", "24"
        )
        ids = temporary_file(self, goldens()[0]["ids"])
        stats = run_greedy(
            "--ids", ids, "--max-tokens", "20", "--memory", "700MB", "--slots", "50"
        )["stats"]
        self.assertEqual(plan["slots"], 50)
        self.assertEqual(stats["slots"], 50)
        self.assertEqual(stats["planned_bytes"], plan["planned_bytes"])

    def test_a_table_for_people(self):
        result = flash("plan", MODEL)
        self.assertEqual(result.code, OK, result)
        for part in ("qwen3_moe", "planned", "budget", "192 experts", "It fits"):
            self.assertIn(part, result.out)


class Tokenize(unittest.TestCase):
    TEXT = "Once upon a time, \u00e9\u4e16\U0001f600\n"

    def test_the_json_object_and_the_way_back(self):
        result = flash_json("tokenize", MODEL, self.TEXT)
        self.assertEqual(set(result), {"ids", "pieces"})
        self.assertEqual(len(result["ids"]), len(result["pieces"]))
        ids = temporary_file(self, result["ids"])
        back = flash_json("tokenize", MODEL, "--decode", "--ids", ids)
        self.assertEqual(back, {"text": self.TEXT})

    def test_the_recorded_ids(self):
        for golden in goldens():
            result = flash_json("tokenize", MODEL, golden["rendered"])
            self.assertEqual(result["ids"], golden["ids"])

    def test_every_way_in_gives_the_same(self):
        expected = flash_json("tokenize", MODEL, self.TEXT)
        path = temporary_file(self, self.TEXT)
        for arguments in (
            [MODEL, "--file", path],
            ["--tokenizer", TOKENIZER, self.TEXT],
            ["--tokenizer", TOKENIZER, "--file", path],
        ):
            self.assertEqual(flash_json("tokenize", *arguments), expected)
        for arguments in ([MODEL], [MODEL, "-"], ["--tokenizer", TOKENIZER]):
            self.assertEqual(
                flash_json("tokenize", *arguments, stdin=self.TEXT), expected
            )

    def test_special_tokens_are_shown_or_left_out(self):
        ids = temporary_file(self, [1, 497, 2])
        decode = ["tokenize", MODEL, "--decode", "--ids", ids]
        shown = flash_json(*decode)["text"]
        hidden = flash_json(*decode, "--no-special")["text"]
        self.assertEqual(shown, f"<|im_start|>{hidden}<|im_end|>")
        self.assertEqual(hidden, "Once")

    def test_no_special_adds_none(self):
        # A tokenizer that puts a token in front of every text.
        with open(TOKENIZER, encoding="utf-8") as file:
            tokenizer = json.load(file)
        special = {"id": "<|endoftext|>", "type_id": 0}
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": special},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                "<|endoftext|>": {
                    "id": "<|endoftext|>",
                    "ids": [0],
                    "tokens": ["<|endoftext|>"],
                }
            },
        }
        path = temporary_file(self, tokenizer)
        command = ["tokenize", "--tokenizer", path, "Once"]
        plain = flash_json(*command, "--no-special")["ids"]
        self.assertEqual(flash_json(*command)["ids"], [0, *plain])

    def test_a_tokenizer_from_a_pipe(self):
        command = f'"{BINARY}" tokenize --tokenizer <(cat "$0/tokenizer.json") hi --json'
        result = subprocess.run(
            ["bash", "-c", command, MODEL], capture_output=True, timeout=TIMEOUT
        )
        self.assertEqual(
            json.loads(result.stdout), flash_json("tokenize", MODEL, "hi")
        )

    def test_lines_for_people(self):
        result = flash("tokenize", MODEL, "Once upon")
        self.assertEqual(result.code, OK)
        expected = flash_json("tokenize", MODEL, "Once upon")
        self.assertEqual(
            result.out,
            "".join(
                f"{i}\t{piece}\n"
                for i, piece in zip(expected["ids"], expected["pieces"])
            ),
        )


class Template(unittest.TestCase):
    def test_the_models_template_is_what_run_uses(self):
        for golden in goldens():
            if golden["kind"] != "chat":
                continue
            context = {
                "messages": [{"role": "user", "content": golden["text"]}],
                "add_generation_prompt": True,
            }
            path = temporary_file(self, context)
            self.assertEqual(
                flash_json("template", MODEL, "--context", path),
                {"text": golden["rendered"]},
            )
            plain = flash("template", MODEL, "--context", path)
            self.assertEqual(plain.out, golden["rendered"] + "\n")

    def render(self, source, context, *flags):
        return flash_json(
            "template",
            "--template",
            temporary_file(self, source),
            "--context",
            temporary_file(self, context),
            *flags,
        )["text"]

    def test_variables_come_from_the_context(self):
        source = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
        context = {
            "bos_token": "<s>",
            "messages": [{"content": "a"}, {"content": "\u00e9"}],
        }
        self.assertEqual(self.render(source, context), "<s>[a][\u00e9]")

    def test_the_models_special_tokens_and_the_contexts_own(self):
        with tempfile.TemporaryDirectory() as folder:
            os.symlink(TOKENIZER, os.path.join(folder, "tokenizer.json"))
            config = {
                "bos_token": "<s>",
                "eos_token": {"content": "</s>"},
                "chat_template": "{{ bos_token }}|{{ eos_token }}",
            }
            with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
                json.dump(config, file)
            for context, text in (({}, "<s>|</s>"), ({"eos_token": "x"}, "<s>|x")):
                path = temporary_file(self, context)
                self.assertEqual(
                    flash_json("template", folder, "--context", path),
                    {"text": text},
                )

    def test_now_is_what_the_template_prints(self):
        source = "{{ strftime_now('%Y-%m-%d %H:%M') }}"
        for now, printed in (
            ("2024-07-26", "2024-07-26 00:00"),
            ("2024-07-26T08:30:00", "2024-07-26 08:30"),
        ):
            self.assertEqual(self.render(source, {}, "--now", now), printed)
        today = self.render("{{ strftime_now('%Y') }}", {})
        self.assertRegex(today, r"\A20\d\d\Z")

    def test_the_templates_own_complaint(self):
        result = flash(
            "template",
            "--template",
            temporary_file(self, "{{ raise_exception('no system role') }}"),
            "--context",
            temporary_file(self, {}),
        )
        self.assertEqual(result.code, USAGE, result)
        self.assertIn("no system role", result.err)


class Verify(unittest.TestCase):
    def test_the_demo_model_passes(self):
        result = flash("verify", MODEL)
        self.assertEqual(result.code, OK, result)
        lines = result.out.splitlines()
        found = re.fullmatch(r"(\d+) passed, 0 failed", lines[-1])
        self.assertIsNotNone(found, lines[-1])
        self.assertEqual(int(found.group(1)), len(lines) - 1)
        self.assertGreater(len(lines), 3)
        for line in lines[:-1]:
            self.assertTrue(line.startswith("ok "), line)

    def test_damaged_weights_fail_against_their_checksums(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "model")
            shutil.copytree(MODEL, copy)
            sums = os.path.join(folder, "sums")
            written = flash("verify", copy, "--write-checksums", sums)
            self.assertEqual(written.code, OK, written)
            checked = flash("verify", copy, "--checksums", sums)
            self.assertEqual(checked.code, OK, checked)
            weights = os.path.join(copy, "model.safetensors")
            os.chmod(weights, 0o644)
            with open(weights, "r+b") as file:
                file.seek(os.path.getsize(weights) // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0x10]))
            again = flash("verify", copy, "--write-checksums", sums)
            self.assertEqual(again.code, USAGE, again)
            self.assertIn("exists", again.err)
            checked = flash("verify", copy, "--checksums", sums)
            self.assertEqual(checked.code, FAILED, checked)
            self.assertRegex(checked.out, "FAIL all weights .* offset")
            result = flash(
                "run", copy, "x", "--raw", "--max-tokens", "4", "--resident",
                "--checksums", sums,
            )
            self.assertEqual(result.code, IO, result)
            self.assertIn("model.safetensors", result.err)


if __name__ == "__main__":
    unittest.main()
