"""bench/peers: what it starts, how it reads what comes back, and the order of
runs. The engines here are small shell scripts; nothing is downloaded."""

import argparse
import csv
import io
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import unittest
from unittest import mock

import support

peers = support.load_script("bench", "peers")
from rivals import PeersError, builds, engines, machine, results, runs
from rivals.cases import CASES, parse_size

SCRIPT = pathlib.Path(support.ROOT, "bench", "peers")
GB = 10**9
on_linux = unittest.skipUnless(sys.platform == "linux", "needs /proc and /sys")


def finished(*lines, code=0, errors="", timed_out=False):
    """A process that printed a line each second."""
    return runs.Finished(code, [(i + 1.0, line + "\n") for i, line in enumerate(lines)], errors, timed_out,
                         runs.was_out_of_memory(errors))


def our_stats(prompt, answer):
    return json.dumps({"tokens": [1] * answer, "stats": {
        "prefill_tokens": prompt, "prefill_seconds": 4.0, "decode_tokens": answer - 1, "decode_seconds": 19.0,
        "bytes_read_load": 1000, "bytes_read_demand": 200, "bytes_read_prefetch": 30, "decode_bytes_read": 150}})


def llama_lines(prompt, answer):
    return [json.dumps({"phase": phase, "seconds": seconds, "tokens": tokens, "bytes_read": read, "major_faults": 9})
            for phase, seconds, tokens, read in (("load", 2, 0, 70), ("prefill", 8, prompt, 20),
                                                 ("decode", 32, answer, 5))]


BIGMOE_OUTPUT = """abcd some text
generation: 96 tokens, 0.250 s/token (4.000 tok/s)
prefill: 128 tokens, 3.000 s (42.7 tok/s) | model load 1.000 s | TTFT 4.000 s
moe-stream: read 512.0 MiB (5.33 MiB/token), decode 0.250 s/token"""


class Reading(unittest.TestCase):
    def figures(self, engine, case, *lines):
        found = engines.ENGINES[engine].measure(CASES[case], finished(*lines))
        return found.seconds, found.tokens, found.bytes_read

    def test_mlx_flash(self):
        self.assertEqual(self.figures("mlx-flash", "out-of-core", our_stats(128, 96)), (19.0, 95, 150))
        self.assertEqual(self.figures("mlx-flash", "prefill-512", our_stats(512, 1)), (4.0, 512, 230))
        # The object comes with the first token, one second after the start.
        self.assertEqual(self.figures("mlx-flash", "ttft", our_stats(128, 1)), (1.0, 0, 1230))
        # And not with whatever is printed before.
        self.assertEqual(self.figures("mlx-flash", "ttft", "a note", our_stats(128, 1)), (2.0, 0, 1230))

    def test_llama_cpp(self):
        self.assertEqual(self.figures("llama.cpp", "decode-resident", *llama_lines(1, 64)), (32, 64, 5))
        self.assertEqual(self.figures("llama.cpp", "prefill-512", "a note", *llama_lines(512, 0)), (8, 512, 20))
        self.assertEqual(self.figures("llama.cpp", "ttft", *llama_lines(128, 0)[:2]), (2.0, 0, 90))
        with self.assertRaisesRegex(PeersError, "no line of phase decode"):
            self.figures("llama.cpp", "out-of-core", *llama_lines(128, 96)[:2])

    def test_bigmoe(self):
        self.assertEqual(self.figures("bigmoe", "out-of-core", *BIGMOE_OUTPUT.splitlines()), (24.0, 96, 512 * 2**20))
        with self.assertRaisesRegex(PeersError, "printed no line"):
            self.figures("bigmoe", "out-of-core", "nothing")

    def test_mlx_lm(self):
        line = json.dumps({"prefill_tokens": 512, "prefill_seconds": 2.5, "decode_tokens": 0, "decode_seconds": 0})
        self.assertEqual(self.figures("mlx-lm", "prefill-512", line)[:2], (2.5, 512))

    def test_a_run_that_did_less_than_was_asked_has_no_figure(self):
        short_answer = BIGMOE_OUTPUT.replace("96 tokens", "3 tokens").splitlines()
        no_answer = BIGMOE_OUTPUT.replace("96 tokens, 0.250", "0 tokens, 0.000").splitlines()
        lm_line = json.dumps({"prefill_tokens": 512, "prefill_seconds": 2, "decode_tokens": 9, "decode_seconds": 1})
        for engine, case, *lines in (("mlx-flash", "out-of-core", our_stats(128, 12)),
                                     ("mlx-flash", "prefill-512", our_stats(500, 1)),
                                     ("mlx-flash", "ttft", our_stats(128, 0)),
                                     ("llama.cpp", "out-of-core", *llama_lines(128, 12)),
                                     ("llama.cpp", "ttft", *llama_lines(12, 0)),
                                     ("bigmoe", "out-of-core", *short_answer),
                                     ("bigmoe", "out-of-core", *no_answer),
                                     ("mlx-lm", "decode-resident-512", lm_line)):
            measured, note = peers.measure(engines.ENGINES[engine], CASES[case], finished(*lines))
            self.assertIsNone(measured, (engine, case))
            self.assertRegex(note, r"no figure: \d+ of \d+ tokens")

    def test_a_run_that_failed_says_why(self):
        limit = "memory limit: peak=100 limit=100 oom_kills={}"
        for run, words in ((finished(code=3), "exit code 3"), (finished(timed_out=True, code=-15), "time limit"),
                           (finished(code=137, errors=limit.format(2)), "killed: out of memory"),
                           (finished(code=137, errors=limit.format(0)), "exit code 137")):
            self.assertEqual(peers.measure(engines.ENGINES["mlx-flash"], CASES["ttft"], run), (None, words))
        measured, note = peers.measure(engines.ENGINES["mlx-flash"], CASES["ttft"], finished("no JSON"))
        self.assertEqual((measured, note), (None, "no figure: printed no JSON object"))


class Commands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        model = self.folder / "shape-skew"
        model.mkdir()
        (model / "config.json").write_text(json.dumps({
            "vocab_size": 50, "hidden_size": 1024, "moe_intermediate_size": 1024, "num_experts": 100,
            "num_hidden_layers": 10, "mlp_only_layers": [0]}))
        gguf = self.folder / "shape-skew-q4_0.gguf"
        with open(gguf, "wb") as file:
            file.truncate(2 * GB)  # a hole: it takes no room
        programs = {name: pathlib.Path("/bin") / name for name in engines.ENGINES}
        self.setting = engines.Setting(2, programs, model, gguf, "q4_0", self.folder, {})

    def words(self, engine, case, memory="", seed=1):
        return engines.ENGINES[engine].command(self.setting, CASES[case], memory, seed)

    def assert_has(self, words, *wanted):
        self.assertIn(" ".join(wanted), " ".join(words))

    def test_llama_cpp_repacks_what_stays_in_memory_and_maps_what_does_not(self):
        self.assert_has(self.words("llama.cpp", "decode-resident"), "--repack", "on", "--mmap", "off")
        self.assert_has(self.words("llama.cpp", "out-of-core", "4GB"), "--repack", "off", "--mmap", "on")

    def test_all_get_the_same_tokens_and_threads(self):
        ours, theirs, bigmoe = (self.words(name, "out-of-core", "2GB") for name in ("mlx-flash", "llama.cpp", "bigmoe"))
        self.assert_has(ours, "--max-tokens", "96")
        self.assert_has(ours, "--threads", "2", "--memory", "2GB")
        self.assert_has(theirs, "-p", "128", "-n", "96", "-t", "2")
        self.assert_has(bigmoe, "-n", "96")
        self.assert_has(bigmoe, "-t", "2")
        ids = json.loads(pathlib.Path(ours[ours.index("--ids") + 1]).read_text())
        self.assertEqual((len(ids), len(bigmoe[-1])), (128, 128))
        self.assertLess(max(ids), 50)

    def test_a_first_token_is_all_that_is_made_for_its_time(self):
        self.assert_has(self.words("mlx-flash", "ttft", "8GB"), "--max-tokens", "1")
        self.assert_has(self.words("llama.cpp", "ttft", "8GB"), "-n", "0")

    def test_mlx_lm_gets_as_many_processors_as_others_get_threads(self):
        words = self.words("mlx-lm", "decode-resident")
        self.assertEqual(words[:2], ["taskset", "--cpu-list"])
        self.assertLessEqual(len(words[2].split(",")), 2)

    def test_rows_show_no_paths_of_this_machine(self):
        shown = peers.shown([f"{peers.ROOT}/build/x", "-m", "/home/me/models/a.gguf", "-n", "3"])
        self.assertEqual(shown, "build/x -m a.gguf -n 3")

    def test_what_is_all_in_memory_is_resident(self):
        self.assertIn("--resident", self.words("mlx-flash", "decode-4096"))
        self.assertNotIn("--memory", self.words("mlx-flash", "decode-4096"))

    def test_bigmoe_gets_the_cache_that_the_limit_leaves(self):
        experts = 3 * 1024 * 1024 * 100 * 9 * 18 // 32
        dense = 2 * GB - experts
        words = self.words("bigmoe", "out-of-core", "2GB")
        wanted = (2 * GB - dense - engines.BIGMOE_OVERHEAD) // 2**20
        self.assert_has(words, "--cache-mb", str(wanted))
        # Never more than there is to cache.
        self.assert_has(self.words("bigmoe", "out-of-core", "9GB"), "--cache-mb", str(experts // 2**20))

    def test_models_that_are_missing_come_with_the_command_that_makes_them(self):
        args = argparse.Namespace(shape="qwen3-30b-a3b", router="skew", gguf_type="q4_k")
        self.setting.gguf_model = self.folder / "none.gguf"
        words = "(?s)none.gguf: is not there.*--router skew --format gguf --gguf-type q4_k"
        with self.assertRaisesRegex(PeersError, words):
            peers.check_models(self.setting, [engines.ENGINES["llama.cpp"]], args)


class Machine(unittest.TestCase):
    def test_its_name_has_the_processor_simd_level_and_cores(self):
        intel = "model name\t: Intel(R) Xeon(R) Gold 6300 CPU @ 2.00GHz\nflags\t\t: fpu avx2 avx512bw"
        self.assertEqual(machine.describe(intel + " avx512_vnni\n", 2), "Intel Xeon Gold 6300, AVX-512 VNNI, 2 cores")
        self.assertEqual(machine.describe(intel + "\n", 1), "Intel Xeon Gold 6300, AVX-512, 1 core")
        self.assertEqual(machine.simd_level("flags : fpu avx2 avx_vnni"), "AVX2 VNNI")
        self.assertEqual(machine.simd_level("flags : fpu avx2"), "AVX2")
        self.assertEqual(machine.simd_level("Features : fp asimd asimddp i8mm"), "NEON i8mm")
        self.assertEqual(machine.file_name("Intel Xeon, AVX-512 VNNI, 2 cores"), "intel-xeon-avx-512-vnni-2-cores")

    @on_linux
    def test_read_ahead_is_set_for_a_while_and_put_back(self):
        with tempfile.TemporaryDirectory() as root:
            device = os.stat(root).st_dev
            place = pathlib.Path(root, "class/bdi", f"{os.major(device)}:{os.minor(device)}")
            place.mkdir(parents=True)
            setting = place / "read_ahead_kb"
            setting.write_text("4096\n")
            with self.assertRaises(KeyError), machine.read_ahead(root, 128, root):
                self.assertEqual(setting.read_text(), "128")
                raise KeyError
            self.assertEqual(setting.read_text(), "4096\n")

    @on_linux
    def test_the_disk_probe_reads_or_says_that_it_cannot(self):
        with tempfile.NamedTemporaryFile() as file:
            self.assertIsNone(machine.disk_speed(file.name, 0.05))
            file.truncate(4 * machine.PROBE_BYTES)
            speed = machine.disk_speed(file.name, 0.05)
            self.assertTrue(speed is None or speed > 0)

    @on_linux
    def test_without_root_there_is_one_error(self):
        with mock.patch.object(os, "geteuid", return_value=1000):
            with self.assertRaisesRegex(PeersError, "^the case ttft drops caches and limits memory, and needs root"):
                peers.run(peers.parse_arguments(["run", "--case", "ttft"]))

    def test_sizes(self):
        self.assertEqual([parse_size(text) for text in ("4GB", "500MB", "1.5GiB")], [4 * GB, 500 * 10**6, 3 * 2**29])
        for text in ("4", "GB", "0MB", "-1GB"):
            with self.assertRaises(argparse.ArgumentTypeError):
                parse_size(text)


class Runs(unittest.TestCase):
    def test_lines_come_with_their_times(self):
        done = runs.run(["sh", "-c", "echo one; sleep 0.2; echo two; echo three >&2; exit 4"])
        self.assertEqual((done.code, done.output, done.errors), (4, "one\ntwo\n", "three\n"))
        # All read at the end would have the same time, but for microseconds.
        self.assertGreater(done.lines[1][0] - done.lines[0][0], 0.01)

    def test_a_run_over_its_time_is_ended(self):
        done = runs.run(["sh", "-c", "echo one; exec sleep 60"], seconds=2)
        self.assertEqual((done.failure(), done.output), ("time limit", "one\n"))

    def test_a_limit_puts_the_command_into_a_cgroup(self):
        self.assertEqual(runs.limited(["a", "b"], 7), [str(runs.LIMITER), "7", "a", "b"])
        self.assertTrue(runs.LIMITER.is_file())


class Downloads(unittest.TestCase):
    PAGE = ('<a href="../../p/llama_cpp_python-0.3.36.tar.gz#sha256=ab12" data-requires-python="&gt;=3.8">'
            "llama_cpp_python-0.3.36.tar.gz</a><br/>\n"
            '<a href="https://files/llama_cpp_python-0.3.36-any.whl">llama_cpp_python-0.3.36-any.whl</a>')

    def test_the_source_package_is_found_in_an_index(self):
        found = builds.source_link(self.PAGE, "https://index/simple/llama-cpp-python/", "0.3.36")
        self.assertEqual(found, ("https://index/p/llama_cpp_python-0.3.36.tar.gz", "ab12"))
        with self.assertRaisesRegex(PeersError, "has no llama_cpp_python-0.3.3.tar.gz"):
            builds.source_link(self.PAGE, "https://index/simple/llama-cpp-python/", "0.3.3")

    def test_pips_index_is_used(self):
        with mock.patch.dict(os.environ, {"PIP_INDEX_URL": "https://mirror/simple"}):
            self.assertEqual(builds.pip_setting("index-url", "x"), "https://mirror/simple")

    def test_only_llama_cpp_leaves_the_package(self):
        names = ["p-1/setup.py", "p-1/vendor/llama.cpp/CMakeLists.txt", "p-1/vendor/llama.cpp/src/llama.cpp",
                 "p-1/vendor/llama.cpp/../../../evil", "p-1/vendor/llama.cpp/.git"]
        with tempfile.TemporaryDirectory() as folder:
            package = pathlib.Path(folder, "p.tar.gz")
            with tarfile.open(package, "w:gz") as archive:
                for name in names:
                    member = tarfile.TarInfo(name)
                    member.size = 1
                    archive.addfile(member, io.BytesIO(b"x"))
            builds.extract(package, pathlib.Path(folder, "out", "llama.cpp"))
            left = sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*") if path.is_file())
        self.assertEqual(left, ["out/llama.cpp/CMakeLists.txt", "out/llama.cpp/src/llama.cpp", "p.tar.gz"])


class Building(unittest.TestCase):
    def assembly(self, source, *flags):
        """What the compiler makes of it; None where it cannot."""
        compiler = shutil.which("c++")
        done = compiler and subprocess.run([compiler, "-x", "c++", "-O3", "-mamx-tile", *flags, "-S", "-o", "-", "-"],
                                           input=source, capture_output=True, text=True)
        return done.stdout if done and done.returncode == 0 else None

    def test_shapes_of_tiles_reach_the_instruction(self):
        # It is compiled and not run: not every machine has tiles. %dil is where a first argument comes.
        program = """#include <immintrin.h>
                     void set(unsigned char rows) {
                       alignas(64) unsigned char config[64] = {1};
                       config[48] = rows;
                       _tile_loadconfig(config);
                     }"""
        if self.assembly(program) is None:
            self.skipTest("needs a compiler that knows tiles")
        self.assertRegex(self.assembly(program, "-include", str(builds.TILES)) or "", r"(?s)%(dil|edi)\b.*ldtilecfg")

    def test_rivals_are_compiled_with_mended_tiles_and_the_flags_of_the_user(self):
        with mock.patch.object(builds, "call") as call, mock.patch.dict(os.environ, {"CXXFLAGS": "-g1"}):
            builds.cmake("source", "folder", "program", 2, "-DX=1")
        configure = call.call_args_list[0].args
        self.assertIn(f'-DCMAKE_CXX_FLAGS=-g1 -include "{builds.TILES}"', configure)
        self.assertEqual(configure[-1], "-DX=1")


@on_linux
class Session(unittest.TestCase):
    """A whole run with engines that are shell scripts."""

    def program(self, path, *lines):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def run_peers(self, folder, *options):
        model = folder / "models" / "tiny-skew"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text('{"vocab_size": 300}')
        (model / "model.safetensors").write_bytes(b"x")
        (folder / "models" / "tiny-skew-q4_0.gguf").write_bytes(b"x")
        prompt, answer = (512, 1) if "prefill-512" in options else (1, 64)
        ours = self.program(folder / "mlx-flash", our_stats(prompt, answer))
        self.program(folder / "build" / "llama_bench", *llama_lines(prompt, answer))
        rows = folder / "rows.csv"
        done = subprocess.run([sys.executable, "-B", SCRIPT, "--build", folder / "build", "run", "--shape", "tiny",
                               "--models", folder / "models", "--mlx-flash", ours, "--results", rows, *options],
                              capture_output=True, text=True)
        return done, rows

    def test_engines_take_turns_and_every_run_is_a_row(self):
        with tempfile.TemporaryDirectory() as name:
            done, path = self.run_peers(pathlib.Path(name), "--case", "decode-resident", "--rounds", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            summary = results.summaries(results.read([path]))
        self.assertEqual([(row["round"], row["engine"]) for row in rows],
                         [("1", "mlx-flash"), ("1", "llama.cpp"), ("2", "llama.cpp"), ("2", "mlx-flash")])
        self.assertEqual([row["tok_s"] for row in rows[:2]], ["3.316", "2.000"])
        self.assertEqual([rows[0][name] for name in ("model", "router", "gguf_type", "threads")],
                         ["tiny", "skew", "q4_0", "2"])
        self.assertIn("--resident", rows[0]["command"])
        self.assertAlmostEqual(summary[0][2][0].speedup, 3.316 / 2)

    def test_an_engine_that_fails_has_a_row_that_says_so(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            fails = folder / "fails"
            fails.write_text("#!/bin/sh\nexit 4\n")
            fails.chmod(0o700)
            done, path = self.run_peers(folder, "--case", "prefill-512", "--rounds", "1", "--mlx-flash", str(fails))
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = results.read([path])
        self.assertEqual([(row["engine"], row["tok_s"], row["note"]) for row in rows],
                         [("mlx-flash", None, "exit code 4"), ("llama.cpp", 64.0, "")])

    def test_a_run_that_is_ended_puts_the_read_ahead_back(self):
        # As `kill` and a service manager end it.
        program = """
import time
import support
peers = support.load_script("bench", "peers")
def run(args):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("put back", flush=True)
peers.run = run
peers.main(["run", "--case", "ttft"])
"""
        with subprocess.Popen([sys.executable, "-B", "-c", program], cwd=pathlib.Path(__file__).parent,
                              stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.terminate()
            self.assertEqual(process.stdout.read(), "put back\n")
            self.assertEqual(process.wait(10), 143)

    def test_a_row_names_no_commit_without_git(self):
        with mock.patch.dict(os.environ, PATH=""):
            self.assertEqual(peers.commit(), "unknown")

    @unittest.skipUnless(shutil.which("git"), "needs git")
    def test_a_row_names_the_commit_and_whether_sources_differ_from_it(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(peers, "ROOT", pathlib.Path(folder)):
            def git(*words):
                subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True,
                               capture_output=True)

            def write(name, text):
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

            self.assertEqual(peers.commit(), "unknown")
            git("init")
            write("source.cpp", "1")
            write("bench/results/a.csv", "1")
            git("add", ".")
            git("commit", "-m", "first")
            name = peers.commit()
            self.assertRegex(name, "^[0-9a-f]{7,}$")
            write("bench/results/a.csv", "2")  # what a session itself appends to
            self.assertEqual(peers.commit(), name)
            write("source.cpp", "2")
            self.assertEqual(peers.commit(), f"{name}-dirty")

    def test_wrong_use_is_one_line(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            other = folder / "other.csv"
            other.write_text("date,commit\n")
            for options, words in ((("--results", str(other)), "other.csv: its columns are not those"),
                                   (("--engines", "bigmoe"), "bigmoe cannot be measured in the case decode-resident"),
                                   (("--shape", "other"), "other-skew: is not there; make it with"),
                                   (("--mlx-flash", "/none"), "/none: is not there; ./dev build builds it")):
                done, _ = self.run_peers(folder, "--case", "decode-resident", *options)
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)
                self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
