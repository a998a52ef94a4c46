"""A folder of scans as one job: a broken scan does not stop the others, and a second run does what is missing.

``scans.csv`` in the output folder is the memory of the job. It has a row per scan, written as the scan is done, with
the files of its result and a fingerprint of the weights, the options and the scan that they were made from.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.utils import ensure_tuple

from med3d_components import __version__
from med3d_components.data.dataset import DataError
from med3d_components.data.volumes import scan_files
from med3d_components.utils import move_aside, write_table
from med3d_components.utils.causes import explain, root_cause, root_line
from med3d_components.utils.files import remove_leftovers
from med3d_components.utils.writer_lock import FolderInUseError, WriterLock

__all__ = ["IncompleteError", "Job", "ScanEvaluator", "ScanJob", "ScanLoader"]

logger = logging.getLogger(__name__)

FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What the next scan would meet as well: the disk is full, or cannot be written."""
COLUMNS = ("case", "image", "error", "fingerprint")
"""The first ones of the table, which it always has."""


class IncompleteError(ValueError):
    """Some scans have no result; the message says how many and where the reasons are."""


class Job:
    """The cases of an inference, and which of them have failed.

    Args:
        items: the cases, each with "image" and "case"; one with "error" has failed before it was read.

    Attributes:
        pending: items that are still to do.
        failures: reason by case.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self.items = {str(item["case"]): dict(item) for item in items}
        self.failures: dict[str, str] = {}
        for case, item in self.items.items():
            if "error" in item:
                Job.fail(self, case, item["error"])
        self.pending = [item for case, item in self.items.items() if case not in self.failures]

    def begin(self, case: str) -> None:
        """Prepare for the result of a case."""

    def stop(self) -> None:
        """End before all is done, as when the run is interrupted."""

    def fail(self, case: str, reason: str) -> None:
        """Keep and log why a case has no result."""
        self.failures[case] = reason
        logger.error("%s has no result: %s", case, reason)

    def finish(self) -> None:
        """End the job.

        Raises:
            IncompleteError: if a case has failed.
        """
        if not self.failures:
            return
        if len(self.items) == 1:
            raise IncompleteError(*self.failures.values())
        reasons = "; ".join(f"{case}: {reason}" for case, reason in self.failures.items())
        raise IncompleteError(f"{len(self.failures)} of {len(self.items)} scans have no result. {reasons}")


class ScanJob(Job):
    """A job that writes files per scan, knows which it wrote before, and leaves all others alone.

    The files of a scan are written into a folder of their own and moved to their places together, so that a run that
    is killed leaves no half of a result. Results that were made from the same weights, options and scan stay; others
    are moved to ``previous/N`` when their scan is done again, or fails. A file in the way that the table does not name
    is not of this program, and the scan fails.

    Args:
        items: the scans, each with "image", a path or a list of one per channel, and "case".
        dataset_dir: what was listed.
        output_dir: folder of the results.
        partial_dir: folder in it into which the files of the scan at hand are written.
        model: file of the weights.
        options: all that decides a result beside the weights.

    Raises:
        ValueError: if the output folder lies in the listed one, where results would be taken for scans; or if its
            scans.csv is not of this program.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        dataset_dir: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        partial_dir: str | os.PathLike[str],
        model: str | os.PathLike[str],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(items)
        self.folder, self.partial = Path(output_dir), Path(partial_dir)
        source = Path(dataset_dir).resolve()
        if source.is_dir() and self.folder.resolve().is_relative_to(source):
            raise ValueError(
                f"output_dir is {output_dir}, in {dataset_dir}, where a result would be read as a scan; name another."
            )
        self.table = self.folder / "scans.csv"
        self.lock = WriterLock(self.folder, "output_dir")
        self.rows = self._read()
        made_by = json.dumps([__version__, options], sort_keys=True, default=str).encode()
        self.made_by = hashlib.sha256(made_by + (_hash([Path(model)]) if Path(model).is_file() else b""))
        self.pending = [item for item in self.pending if not self._is_done(item)]
        if kept := len(self.items) - len(self.pending) - len(self.failures):
            logger.info("%d of %d scans have their result already, and are left as they are.", kept, len(self.items))

    def begin(self, case: str) -> None:
        """Prepare for the files of a case.

        Raises:
            ValueError: if another run writes into the folder.
        """
        self._claim()
        shutil.rmtree(self.partial, ignore_errors=True)

    def keep(self, case: str, row: Mapping[str, Any]) -> None:
        """Move the files of a case to their places, and add its row to the table.

        Args:
            case: its name.
            row: what the table says of it.
        """
        made = sorted(path for path in self.partial.rglob("*") if path.is_file())
        names = [path.relative_to(self.partial).as_posix() for path in made]
        if strange := [name for name in names if name not in self._files(case) and (self.folder / name).exists()]:
            reason = "is in the way, and scans.csv does not name it as a result; move it, or name another output_dir."
            return self.fail(case, f"{self.folder / strange[0]} {reason}")
        self._set_aside(case)
        head = {"case": case, "image": _image(self.items[case])}
        done = {**head, "fingerprint": self._fingerprint(self.items[case]), **row, "files": _join(names)}
        # Known as this program's, should the next lines be the last.
        self._write(case, {**head, "error": "The run was stopped before its end.", "files": done["files"]})
        for path, name in zip(made, names, strict=True):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self.folder / name)
        self._write(case, done)
        return None

    def fail(self, case: str, reason: str) -> None:
        """Keep and log why a case has no result, and write the table; an earlier result is moved aside."""
        self._claim()
        self._set_aside(case)
        super().fail(case, reason)
        self._write(case, {"case": case, "image": _image(self.items[case]), "error": reason})

    def finish(self) -> None:
        """End the job, and let other runs write into the folder.

        Raises:
            IncompleteError: if a case has failed.
        """
        if self.failures:
            self._claim()  # which may not have begun
        self.stop()
        super().finish()

    def stop(self) -> None:
        """Let other runs write into the folder; what there is of the scan at hand is removed."""
        if self.lock.held:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.lock.release()

    def _claim(self) -> None:
        """Keep other runs out of the folder, read what they have written, and tell of scans that failed unread."""
        if self.lock.held:
            return self.lock.check()
        self.lock.acquire()
        remove_leftovers(self.folder)
        # A scan that failed may have another name now, as a DICOM series that was repaired.
        images = {_image(item) for item in self.items.values()}
        earlier = self._read().items()
        self.rows = {case: row for case, row in earlier if not (row.get("error") and row["image"] in images)}
        for case, reason in self.failures.items():
            self._set_aside(case)
            self._write(case, {"case": case, "image": _image(self.items[case]), "error": reason})
        return None

    def _set_aside(self, case: str) -> None:
        """Move the files of an earlier result to another folder."""
        if moved := move_aside([self.folder / name for name in self._files(case)], self.folder / "previous"):
            logger.info("The earlier result of %s was moved to %s.", case, moved)

    def _write(self, case: str, row: Mapping[str, Any]) -> None:
        self.rows[case] = dict(row)
        write_table(self.table, list(self.rows.values()), first=COLUMNS)

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.table.is_file():
            return {}
        try:
            with self.table.open(newline="", encoding="utf-8-sig") as file:  # Excel puts a mark in front
                rows = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error):
            rows = [{}]
        if not all(row.keys() >= {"case", "image", "fingerprint"} for row in rows):
            raise ValueError(f"{self.table} is not a table of this version; move it, or name another output_dir.")
        return {row["case"]: {key: value for key, value in row.items() if value} for row in rows}

    def _files(self, case: str) -> list[str]:
        return _split(self.rows.get(case, {}).get("files", ""))

    def _is_done(self, item: Mapping[str, Any]) -> bool:
        row, files = self.rows.get(str(item["case"]), {}), self._files(item["case"])
        if "fingerprint" not in row or not files or not all((self.folder / name).is_file() for name in files):
            return False
        return bool(row["fingerprint"] == self._fingerprint(item))

    def _fingerprint(self, item: Mapping[str, Any]) -> str:
        made_from = self.made_by.copy()
        made_from.update(_hash(scan_files(item["image"])))
        return made_from.hexdigest()[:32]


class ScanLoader(DataLoader):
    """MONAI's data loader for a job: items that cannot be read fail, and the others go on.

    Args:
        dataset: of the pending items of the job, which raises a :class:`DataError` for one that cannot be read.
        job: that is told.
        **kwargs: see ``monai.data.DataLoader``.
    """

    def __init__(self, dataset: Dataset, job: Job, **kwargs: Any) -> None:
        super().__init__(dataset, **kwargs)
        self.job = job

    def __iter__(self) -> Iterator[Any]:
        """Yield batches; of one whose items all fail, an empty one, since the engine counts them."""
        batches = super().__iter__()
        for indices in self.batch_sampler:
            try:
                yield next(batches)
            except DataError:
                yield self._without_broken(indices)

    def _without_broken(self, indices: Iterable[int]) -> Any:
        items = []
        for index in indices:
            try:
                items.append(self.dataset[index])
            except DataError as error:
                self.job.fail(self.dataset.data[index]["case"], str(error))
        return self.collate_fn(items) if items else {}


class ScanEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for a job: a case that an error stops fails, and the others go on.

    A full disk ends the job.

    Args:
        job: that is told.
        **kwargs: see ``monai.engines.SupervisedEvaluator``.
    """

    def __init__(self, job: Job, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    def run(self, *arguments: Any) -> None:
        """Run; whatever ends it early ends the job, too."""
        try:
            super().run(*arguments)
        except BaseException:
            self.job.stop()
            raise

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        try:
            for case in batchdata["case"] if batchdata else ():
                self.job.begin(case)
            if batchdata:
                return super()._iteration(engine, batchdata)
        except FolderInUseError:
            raise
        except Exception as error:  # whatever the libraries of the way from a scan to its mask raise
            if getattr(root_cause(error), "errno", None) in FATAL:
                raise
            logger.debug("The error in full:", exc_info=error)
            reason = explain(error) or f"{type(error).__name__}: {root_line(error)}"
            for case in batchdata["case"]:
                self.job.fail(case, reason)
        engine.state.batch, engine.state.output = [], []
        return engine.state.output


def _image(item: Mapping[str, Any]) -> str:
    """Return the path of a scan for the table; of several files, one for each channel, all of them."""
    return "; ".join(map(str, ensure_tuple(item["image"])))


def _join(names: Sequence[str]) -> str:
    """Write names into one field of a table.

    Example:
        >>> _join(["a_seg.nii.gz", "b;100%_seg.nii.gz"])
        'a_seg.nii.gz;b%3B100%25_seg.nii.gz'
    """
    return ";".join(name.replace("%", "%25").replace(";", "%3B") for name in names)


def _split(field: str) -> list[str]:
    """Read the names of :func:`_join`."""
    return [name.replace("%3B", ";").replace("%25", "%") for name in field.split(";") if name]


def _hash(paths: Iterable[Path]) -> bytes:
    """Return a hash of the content of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.digest()
