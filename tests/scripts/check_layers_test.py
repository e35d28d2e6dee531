"""scripts/check_layers finds what it is there to find, in a small tree."""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "scripts", "check_layers")

TABLE = """# Architecture

```
not a table
```
Text.
```
base     <- include/mlx_flash
platform <- base
storage  <- base platform
text     <- base              (+ text-ffi)
kernels  <- base platform
ops      <- base kernels      + MLX
engine   <- all of the above  + MLX (the only meeting point)
cli      <- base storage include/mlx_flash
```
"""

TWO_COLUMNS = """
```
base      <- include/mlx_flash                  text     <- base           (+ text-ffi)
platform  <- base                               kernels  <- base platform
storage   <- base platform                      ops      <- base kernels   + MLX
engine    <- all of the above + MLX             (the only meeting point)
cli       <- base storage include/mlx_flash
```
"""

# A tree that keeps every rule and uses each permission once.
GOOD = {
    "include/mlx_flash/engine.h": '#include <vector>\n#include "mlx_flash/error.h"\n',
    "include/mlx_flash/error.h": "#pragma once\n",
    "src/base/error.h": '#include "mlx_flash/error.h"\n',
    "src/platform/file.cpp": '#include "base/error.h"\n#ifdef __linux__\n#endif\n',
    "src/storage/reader.cpp": '#include "platform/file.h"\n#include "storage/reader.h"\n',
    "src/storage/config.cpp": "#include <nlohmann/json.hpp>\n",
    "src/storage/note.cpp": '// #include "ops/linear.h"\nconst char* s = "__APPLE__";\n',
    "src/kernels/matmul.cpp": "#include <hwy/highway.h>\n#include <sys/types.h>\n",
    "src/ops/linear.cpp": '#include <mlx/array.h>\n#include "kernels/matmul.h"\n',
    "src/engine/engine.cpp": '#include <mlx/mlx.h>\n#include "ops/linear.h"\n'
    '#include "storage/reader.h"\n#include "text/tokenizer.h"\n',
    "src/text/tokenizer.cpp": '#include "text_ffi.h"\n',
    "src/cli/main.cpp": '#include <CLI/CLI.hpp>\n#include "mlx_flash/engine.h"\n',
}


def check(files, table=TABLE):
    """Runs the script on a tree of `files`; (exit status, lines)."""
    with tempfile.TemporaryDirectory() as root:
        everything = dict(files)
        if table is not None:
            everything["docs/architecture.md"] = table
        for name, text in everything.items():
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run(
            [sys.executable, SCRIPT, root], capture_output=True, text=True
        )
    return done.returncode, (done.stdout + done.stderr).splitlines()


class CheckLayersTest(unittest.TestCase):
    def assert_found(self, name, text, line, *words):
        """`text` added as `name` to the good tree is the one violation."""
        status, lines = check({**GOOD, name: text})
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(f"{name}:{line}: "), lines)
        for word in words:
            self.assertIn(word, lines[0])

    def test_a_tree_that_keeps_the_rules_passes(self):
        self.assertEqual(check(GOOD), (0, []))

    def test_the_table_may_have_two_columns(self):
        self.assertEqual(check(GOOD, TWO_COLUMNS), (0, []))
        bad = {**GOOD, "src/storage/bad.cpp": '#include "kernels/matmul.h"\n'}
        status, lines = check(bad, TWO_COLUMNS)
        self.assertEqual(status, 1)
        self.assertIn("src/storage/bad.cpp:1: ", lines[0])

    def test_a_folder_that_the_table_does_not_allow(self):
        text = '#include <vector>\n\n#include "engine/engine.h"\n'
        self.assert_found("src/storage/bad.cpp", text, 3, "storage", "engine")

    def test_angle_brackets_and_spaces_hide_nothing(self):
        text = "  #  include <storage/reader.h>\n"
        self.assert_found("src/base/bad.h", text, 1, "base", "storage")

    def test_a_continued_line_hides_nothing(self):
        text = '\n#include \\\n  "storage/reader.h"\n'
        self.assert_found("src/base/bad.h", text, 2, "storage")

    def test_a_relative_path_hides_nothing(self):
        text = '#include "../engine/engine.h"\n'
        self.assert_found("src/storage/bad.cpp", text, 1, "no folder")

    def test_tests_and_benchmarks_keep_the_table_too(self):
        text = '#include "storage/reader.h"\n'
        self.assert_found("src/base/rng_test.cpp", text, 1)
        self.assert_found("src/base/rng_bench.cpp", text, 1)

    def test_the_public_headers_include_none_of_src(self):
        text = '#include "base/error.h"\n'
        self.assert_found("include/mlx_flash/bad.h", text, 1, "base")

    def test_mlx_where_the_table_does_not_say_so(self):
        for folder in ("base", "storage", "kernels", "cli"):
            name = f"src/{folder}/bad.cpp"
            self.assert_found(name, "#include <mlx/array.h>\n", 1, "MLX")
        self.assert_found(
            "include/mlx_flash/bad.h", "#include <mlx/array.h>\n", 1, "MLX"
        )

    def test_highway_outside_kernels(self):
        for folder in ("ops", "engine", "storage"):
            name = f"src/{folder}/bad.cpp"
            self.assert_found(name, "#include <hwy/base.h>\n", 1, "Highway")

    def test_costly_headers_in_a_header(self):
        for header in ("nlohmann/json.hpp", "CLI/CLI.hpp"):
            name = "src/storage/bad.h"
            self.assert_found(name, f"#include <{header}>\n", 1, header)

    def test_the_operating_system_outside_platform(self):
        for test in (
            "#ifdef __APPLE__",
            "#if defined(__linux__) && 1",
            "#ifndef _WIN32",
            "# elif defined __APPLE__",
        ):
            self.assert_found("src/base/bad.cpp", test + "\n#endif\n", 1, "test")

    def test_a_folder_without_a_line(self):
        self.assert_found("src/magic/bad.cpp", "\n", 1, "no line")

    def test_every_violation_is_printed(self):
        text = '#include "engine/a.h"\n#include "ops/b.h"\n'
        status, lines = check({"src/base/bad.cpp": text})
        self.assertEqual((status, len(lines)), (1, 2))

    def test_without_a_table_nothing_passes(self):
        for table in (None, "# Architecture\n", "```\nbase <- nowhere\n```\n"):
            status, lines = check(GOOD, table)
            self.assertEqual(status, 2)
            self.assertEqual(len(lines), 1)

    def test_the_projects_own_table_is_read(self):
        path = os.path.join(ROOT, "docs", "architecture.md")
        with open(path, encoding="utf-8") as file:
            table = file.read()
        tree = {
            "src/engine/good.cpp": '#include <mlx/mlx.h>\n#include "storage/reader.h"\n'
        }
        self.assertEqual(check(tree, table), (0, []))
        tree["src/storage/bad.cpp"] = '#include "engine/engine.h"\n'
        self.assertEqual(check(tree, table)[0], 1)


if __name__ == "__main__":
    unittest.main()
