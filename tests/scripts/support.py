"""What the tests of scripts share: loading a script as a module, and a Python
that has the packages a test needs."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = 77


def load_script(*path):
    """The script below the project's folder, which has no .py in its name."""
    name = path[-1]
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, *path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def has(python, module):
    asked = subprocess.run([python, "-c", f"import {module}"], capture_output=True)
    return asked.returncode == 0


def need_module(module):
    """Goes on in the Python of build/venv where this one lacks `module`; ends as
    skipped where that lacks it too."""
    if importlib.util.find_spec(module):
        return
    other = os.path.join(ROOT, "build", "venv", "bin", "python3")
    if os.path.exists(other) and has(other, module):
        os.execv(other, [other, "-B", *sys.argv])
    print(f"skipped: neither this Python nor build/venv has {module}")
    sys.exit(SKIPPED)
