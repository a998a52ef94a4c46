"""Runs ``python -m module`` in a process of its own that need not import torch and MONAI anew, which takes seconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# One server for all tests of a pytest process; the first command starts it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["monai.bundle", "med3d_components.handlers", "med3d_components.transforms"])

Limit = tuple[int, int]


def run_module(
    module: str,
    *arguments: object,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit: Limit | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a module as a program, wait for its end, and return its exit code and what it printed, errors among it.

    Args:
        module: as ``python -m`` takes it.
        *arguments: of the command line.
        folder: where it runs.
        environment: variables that it gets beside those of this process.
        limit: what ``resource.setrlimit`` is told, and how much of it the program may take.
    """
    command = [module, *map(str, arguments)]
    # One thread: the tests' networks are too small to gain from more.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **(environment or {})}
    with tempfile.NamedTemporaryFile() as log:
        process = SERVER.Process(target=_become, args=(command, folder, variables, limit, log.name))
        process.start()
        process.join()
        assert process.exitcode is not None
        # Named, since the locale's encoding is no longer that of Python once ITK is imported.
        return subprocess.CompletedProcess(command, process.exitcode, Path(log.name).read_text(encoding="utf-8"), "")


def _become(command: list[str], folder: Path, variables: dict[str, str], limit: Limit | None, log: str) -> None:
    """Do what the interpreter does with ``-m``, from its start to its end."""
    sys.stdout.flush()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if Path(path) not in (Path(), ROOT))]
    sys.argv = command
    multiprocessing.set_start_method("fork", force=True)
    if limit:
        kind, most = limit
        resource.setrlimit(kind, (most, most))
    code: object = 0
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    atexit._run_exitfuncs()
    sys.exit(code)
