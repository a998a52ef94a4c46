"""Help and spelling of every script, each in a process of its own that must not import what takes seconds."""

from __future__ import annotations

import re
import resource
import runpy
import subprocess
import sys

import pytest

from med3d_components.utils.help import command_help, read_declaration
from tests.conftest import ROOT

SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")
COMMANDS = {path.stem: runpy.run_path(str(path)).get("COMMANDS", {}) for path in SCRIPTS}
SUBCOMMANDS = [(script, name) for script, commands in COMMANDS.items() for name in commands]
OPEN = {"cross_validate", "plan_memory"}  # their other options are for the bundle, which knows them
LIMIT_S = 2
HEAVY = {"torch", "monai", "numpy", "scipy", "nibabel", "itk", "ignite", "skimage", "matplotlib", "pandas"}

# The script as it is run from a shell, and at its end what it imported.
RUN = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: str, *arguments: str) -> tuple[int, str, str]:
    """Run a script that imports nothing heavy; return its exit code, and what it printed to stdout and stderr."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", RUN, str(ROOT / "scripts" / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LIMIT_S
    error, _, imported = done.stderr.rpartition("imported:")
    assert "med3d_components.utils" in imported.split(), done.stderr
    assert not HEAVY & set(imported.split())
    return done.returncode, done.stdout, error


def help_of(*arguments: str) -> str:
    code, out, error = run(*arguments)
    assert (code, error) == (0, "")
    assert out.startswith(f"usage: {arguments[0]}.py")
    assert max(map(len, out.splitlines())) <= 100
    return out


@pytest.mark.parametrize("script", COMMANDS)
def test_a_script_says_at_once_what_it_does(script: str) -> None:
    out = help_of(script, "--help")
    listed = re.findall(r"^  ([\w-]+)\n      [A-Z]", out.partition("\ncommands:\n")[2], flags=re.MULTILINE)
    assert listed == list(COMMANDS[script])
    assert bool(listed) != ("\noptions:\n  --" in out)
    if listed:
        assert help_of(script) == out
        assert "\noptions:\n  --" in help_of(script, listed[-1], "--help")


@pytest.mark.parametrize("script", sorted(COMMANDS.keys() - OPEN))
def test_a_misspelt_option_is_answered_with_the_nearest_at_once(script: str) -> None:
    command = [*list(COMMANDS[script])[:1]]
    right = {"sync_bundles": "check", "demo_summary": "folder"}.get(script, "out")
    program = " ".join([f"{script}.py", *command])
    answer = f"error: --{right}s is no id of {program}; did you mean --{right}?\n"
    assert run(script, *command, f"--{right}s", "x") == (1, "", answer)


@pytest.mark.parametrize(("script", "command"), SUBCOMMANDS)
def test_every_option_of_a_command_is_explained_in_100_columns(script: str, command: str) -> None:
    declared = read_declaration(COMMANDS[script][command])
    out = command_help("tool.py", declared.text, declared)
    heading = r"^  --(\w+) [\w,.]+(?: \((?:required|default .+)\))?\n      \S"
    assert re.findall(heading, out, re.MULTILINE) == [option.name for option in declared.options]
    assert max(map(len, out.splitlines())) <= 100
