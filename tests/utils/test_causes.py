from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from med3d_components.data import DataError, ScanDataset
from med3d_components.utils import as_flag
from med3d_components.utils.causes import explain, show_cause
from med3d_components.utils.options import check_value


def raised(run: Callable[[], object]) -> BaseException:
    """Return the error that a call ends in."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        run()
    return caught.value


def wrap(error: BaseException, into: type[Exception] = RuntimeError) -> BaseException:
    """Wrap an error as MONAI does on its way up."""

    def run() -> None:
        raise into("Failed to instantiate component x") from error

    return raised(run)


def printed(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    show_cause(type(error), error, error.__traceback__)
    return capsys.readouterr().err


def test_an_error_of_ours_ends_in_its_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = wrap(wrap(raised(lambda: as_flag("resume", "yes"))))
    assert printed(error, capsys) == "\nerror: resume is 'yes', but must be true or false.\n"


def test_our_error_counts_not_the_librarys_that_it_was_raised_from(tmp_path: Path) -> None:
    from med3d_components.settings import read_settings

    (tmp_path / "settings.json").write_text('{"depth": ')
    error = wrap(raised(lambda: read_settings(tmp_path / "settings.json")))
    assert str(explain(error)).startswith(f"{tmp_path / 'settings.json'} is not valid JSON")


def test_an_error_that_arose_while_another_was_handled_counts() -> None:
    def run() -> None:
        try:
            {}["x"]
        except KeyError:
            check_value("epochs", 0)

    assert explain(raised(run)) == "epochs is 0, but must be an integer, 1 or more."


def broken(item: dict[str, str]) -> None:
    raise ValueError("cut off")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_real_worker_ends_in_the_line_of_its_file(workers: int) -> None:
    loader: DataLoader[Any] = DataLoader(ScanDataset([{"image": "a.nii"}], broken), num_workers=workers)
    error = raised(lambda: next(iter(loader)))
    assert isinstance(error, DataError)
    assert explain(wrap(error)) == "a.nii: cut off"


class Killed(Dataset[int]):
    """A dataset whose worker is ended, as the kernel does where memory is short."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), 9)
        return index


def test_a_worker_that_the_system_ended_is_explained() -> None:
    error = raised(lambda: next(iter(DataLoader(Killed(), num_workers=1))))
    line = str(explain(error))
    assert "ended a worker" in line
    assert all(word in line for word in ("patch", "--batch_size", "--num_workers", "plan_memory.py"))


def test_batch_norm_on_single_voxels_is_explained() -> None:
    layer = torch.nn.BatchNorm3d(2)
    line = explain(wrap(raised(lambda: layer(torch.ones(1, 2, 1, 1, 1)))))
    assert "Take a larger patch" in str(line)


def test_a_full_disk_is_explained_for_files_and_checkpoints() -> None:
    error = wrap(raised(lambda: torch.save(torch.ones(100_000), "/dev/full")))
    assert "A checkpoint could not be written" in str(explain(error)) or "the disk is full" in str(explain(error))

    def write() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    assert "the disk is full" in str(explain(wrap(raised(write))))


def test_full_memories_are_explained_with_what_to_turn() -> None:
    messages = (
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8.",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "unable to mmap 64 bytes from file </torch_1_2_3>: Cannot allocate memory (12)",
    )
    for message in messages:
        line = str(explain(wrap(RuntimeError(message))))
        assert all(word in line for word in ("patch", "--batch_size", "--num_workers", "plan_memory.py")), message
    assert "GPU" in str(explain(torch.OutOfMemoryError(messages[0])))
    assert all("/dev/shm" in str(explain(RuntimeError(message))) for message in messages[2:])


def test_too_many_open_files_are_not_taken_for_a_full_memory() -> None:
    message = "unable to open shared memory object </torch_1_2_3> in read-write mode: Too many open files (24)"
    assert "ulimit -n" in str(explain(RuntimeError(message)))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EMFILE, errno.ENOTDIR, errno.ELOOP])
def test_an_error_of_the_system_names_the_path(number: int) -> None:
    line = str(explain(wrap(OSError(number, os.strerror(number), "/some/folder"))))
    assert line.startswith("/some/folder: ")
    assert "\n" not in line


def test_an_unforeseen_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = wrap(raised(lambda: {}["x"]))
    assert explain(error) is None
    assert "Traceback" in printed(error, capsys)


def test_an_error_of_python_without_a_number_is_not_foreseen() -> None:
    assert explain(ValueError("of some other library")) is None


def test_an_interrupted_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(KeyboardInterrupt(), capsys).rstrip().endswith("--resume true.")


def test_the_line_is_the_last_of_a_process() -> None:
    code = (
        "import sys; from med3d_components.utils.causes import show_cause; sys.excepthook = show_cause;"
        "from med3d_components.utils.options import check_value; print('before'); check_value('epochs', 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    assert done.stdout.splitlines() == ["before", "", "error: epochs is 0, but must be an integer, 1 or more."]
    assert done.returncode == 1
