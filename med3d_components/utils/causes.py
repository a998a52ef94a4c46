"""The one line that a user needs of an error, wherever in the libraries it arose."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType

__all__ = ["INTERRUPTED", "explain", "own_cause", "root_cause", "root_line", "show_cause"]

PACKAGE = __name__.partition(".")[0]

MEMORY = (
    "take a smaller patch or --batch_size, more --accumulation_steps, or fewer --num_workers; "
    "scripts/plan_memory.py tells what fits"
)
EXPLANATIONS = {
    r"CUDA out of memory|OutOfMemoryError": f"The GPU's memory is full: {MEMORY}.",
    r"can't allocate memory|DefaultCPUAllocator|Unable to allocate": f"The memory is full: {MEMORY}.",
    r"Too many open files \(24\)|received 0 items of ancdata": (
        "Too many open files: raise the limit (ulimit -n 4096), or take --num_workers 0."
    ),
    r"out of shared memory|[Bb]us error|unable to (?:open|resize|mmap|allocate).*(?:shared memory|/torch_)": (
        "Shared memory (/dev/shm) is full, through which workers hand over their samples: give the container more, "
        f"such as docker run --shm-size=8g, or {MEMORY}."
    ),
    r"DataLoader worker .*(?:killed|exited unexpectedly)": (
        f"The system ended a worker of the data loader, most likely because the memory was full: {MEMORY}."
    ),
    r"Expected more than 1 value per channel": (
        "BatchNorm cannot learn from one value per channel: the patch is so small that its deepest map is a single "
        "voxel, and a batch holds one of them. Take a larger patch or a --batch_size that leaves no batch of one."
    ),
    r"PytorchStreamWriter failed writing|file write failed|enforce fail at inline_container": (
        "A checkpoint could not be written: the disk is full, or a limit on the size of files was reached. Free some "
        "space, or name another --ckpt_dir."
    ),
}
"""What libraries say, as a regular expression, and what it means to somebody who trains."""

INTERRUPTED = "interrupted; a training goes on from what it saved last with --resume true."

ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or name another folder by --output_dir and --ckpt_dir",
    errno.EDQUOT: "the quota is used up; free some space, or name another folder by --output_dir and --ckpt_dir",
    errno.EFBIG: "a limit on the size of files was reached (ulimit -f)",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096), or take --num_workers 0",
    errno.EROFS: "it lies on a read-only file system; name another folder",
    errno.EACCES: "permission denied; name another folder, or change its rights",
    errno.EPERM: "the operation is not permitted there; name another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder; name another one",
    errno.EEXIST: "it exists already, and is a file where a folder is needed, or the other way round",
    errno.EISDIR: "it is a folder, but a file is needed",
    errno.ENOENT: "there is no such file or folder",
}


def explain(error: BaseException) -> str | None:
    """Return the line that a user needs of an error, None for one that nobody foresaw.

    MONAI wraps an error once per config item on its way up, and a data loader's worker turns it into text. The
    outermost error of this package counts, since it knows more than what it was raised from; then what libraries say
    that has an explanation here; then any error of the operating system.

    Args:
        error: with its chain of causes.

    Example:
        >>> explain(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))[:27]
        "The GPU's memory is full: t"
        >>> explain(KeyError("x")) is None
        True
    """
    errors = list(_chain(error))
    for each in errors:
        if (line := _own_line(each)) is not None:
            return line
    for each in errors:
        text = f"{type(each).__name__}: {each}"
        for pattern, line in EXPLANATIONS.items():
            if re.search(pattern, text):
                return line
    for each in errors:
        if isinstance(each, OSError) and each.errno is not None:
            path = f"{each.filename}: " if each.filename is not None else ""
            return f"{path}{ADVICE.get(each.errno, str(each.strerror).lower())}."
    return None


def root_cause(error: BaseException) -> BaseException:
    """Return what an error was raised from in the end: MONAI wraps it once per config item or transform on its way up.

    Example:
        >>> try:
        ...     raise RuntimeError("applying transform") from ValueError("no volume")
        ... except RuntimeError as wrapped:
        ...     root_cause(wrapped)
        ValueError('no volume')
    """
    *_, root = _chain(error, handled=False)
    return root


def own_cause(error: BaseException) -> BaseException:
    """Return the outermost error of this package that an error was raised from, its :func:`root_cause` if none is."""
    return next((each for each in _chain(error) if _own_line(each) is not None), root_cause(error))


def root_line(error: BaseException) -> str:
    """Return the text of an error's :func:`root_cause` in one line, its type where it has none."""
    root = root_cause(error)
    return " ".join(str(root).split()) or type(root).__name__


def show_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the one line of a foreseeable error, last on the screen; the traceback of any other.

    What ``sys.excepthook`` is set to.
    """
    if isinstance(error, KeyboardInterrupt):
        line: str | None = INTERRUPTED
    else:
        line = explain(error)
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stdout.flush()
        print(f"\nerror: {line}", file=sys.stderr)


def _chain(error: BaseException | None, handled: bool = True) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, or also while handling, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if handled and not error.__suppress_context__ else None)


def _own_line(error: BaseException) -> str | None:
    """Return the line of an error that this package raised, or that a worker handed over as text."""
    text = str(error).strip()
    *_, last = text.splitlines() or [""]
    # A worker's text ends in the type of the error, with its module, and the message.
    if found := re.match(rf"{PACKAGE}[.\w]*: (.+)", last):
        return found[1]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith((PACKAGE, "scripts"))
    return " ".join(text.split()) if ours and text and isinstance(error, ValueError | OSError) else None
