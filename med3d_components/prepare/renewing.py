"""The folder of an import that may have run before: what earlier runs have left in it, and what of that still holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.prepare.decathlon import check_free
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest

__all__ = ["PARTS", "Entry", "ImportFolder"]

PARTS = ("image", "label")
"""Files of a case."""

Entry = dict[str, Any]
"""A case in ``dataset.json``."""
Source = Mapping[str, Any]
"""What a case is made of: "files", their checksums, and more that decides what is written."""


class ImportFolder:
    """The folder that an import writes, and the hidden one beside it, where files gather until all are there.

    ``dataset.json`` of both keeps, for each case, what it was made of ("source") and the checksums of its files
    ("written"). So an import that is run again takes what was corrected, and knows what was edited in its folder.

    Args:
        folder: to write.

    Attributes:
        folder: to write.
        staging: the hidden one.
        there: cases that an earlier import has finished, by name.
        begun: cases that an interrupted import has written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.staging = self.folder.with_name(f".{self.folder.name}.partial")
        self.there, self.begun = _imported(self.folder), _imported(self.staging)

    def check_same_work(self, classes: Sequence[str], sources: Mapping[str, Source]) -> None:
        """Refuse a folder that holds something else than an earlier state of this import.

        Args:
            classes: names, background first.
            sources: of the cases, by name.

        Raises:
            FileExistsError: if it holds data of another kind, other classes, or cases that are made of other files
                altogether.
        """
        if not self.there:
            check_free(self.folder)
            return
        before = list(read_dataset_json(self.folder / "dataset.json")["labels"].values())
        known = {digest for entry in self.there.values() for digest in entry["source"]["files"]}
        left = [name for name in self.there if name not in sources]
        if before != list(classes):
            found = f"its classes are {', '.join(before)}, not {', '.join(classes)}"
        elif known.isdisjoint(digest for source in sources.values() for digest in source["files"]):
            found = "none of its cases was made of one of these files"
        elif left and any(self._is_chosen_anew(name, source) for name, source in sources.items()):
            found = f"its classes were made of other label values, and {left[0]} has no source to be made anew"
        else:
            return
        raise FileExistsError(
            f"{self.folder} already holds other data: {found}; move it away or choose another folder."
        )

    def find_pending(self, sources: Mapping[str, Source]) -> list[str]:
        """Return the cases to write: those that are new, whose source has changed, or a file of which was deleted.

        Raises:
            FileExistsError: if a file would be overwritten that is not as it was imported.
        """
        pending = [name for name, source in sources.items() if not self._is_there(name, source)]
        for name in pending:
            self._check_untouched(name)
        return pending

    def resume(self, pending: Sequence[str], sources: Mapping[str, Source]) -> dict[str, Entry]:
        """Return what an interrupted import has written of these cases and is still right; delete the rest of it."""
        useful = {name: self.begun[name] for name in pending if self._is_begun(name, sources[name])}
        files = {self.staging / entry[part] for entry in useful.values() for part in PARTS}
        for file in self.staging.glob("*Tr/*"):
            if file not in files:
                file.unlink()
        return useful

    def publish(self, written: Mapping[str, Entry], dataset: Mapping[str, Any]) -> None:
        """Move files to their place, the list of them last; the next run makes up for an interruption.

        Args:
            written: cases whose files lie in the hidden folder.
            dataset: content of ``dataset.json``; what else somebody has added to it stays.
        """
        if not self.there:
            write_json(self.staging / "dataset.json", dataset)
            self.staging.replace(self.folder)
            return
        for file in [entry[part] for entry in written.values() for part in PARTS]:
            if (self.staging / file).is_file():
                (self.staging / file).replace(self.folder / file)
        file = self.folder / "dataset.json"
        write_json(file, {**read_dataset_json(file), **dataset})

    def clean(self) -> None:
        """Delete the hidden folder."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _is_there(self, name: str, source: Source) -> bool:
        entry = self.there.get(name)
        return (
            entry is not None and entry["source"] == source and all((self.folder / entry[x]).is_file() for x in PARTS)
        )

    def _is_begun(self, name: str, source: Source) -> bool:
        """Tell whether the files of a case are still right, in the hidden folder or in their place already."""
        entry = self.begun.get(name)
        if entry is None or entry["source"] != source:
            return False
        return all(_is_written(self.staging, entry, x) or _is_written(self.folder, entry, x) for x in PARTS)

    def _is_chosen_anew(self, name: str, source: Source) -> bool:
        """Tell whether a case was made of the same files, but other values in them."""
        before = self.there.get(name, {"source": source})["source"]
        return bool(before["files"] == source["files"] and before != source)

    def _check_untouched(self, name: str) -> None:
        known = [cases[name] for cases in (self.there, self.begun) if name in cases]
        for part in PARTS:
            file = self.folder / f"{part}sTr" / f"{name}.nii.gz"
            if file.is_file() and not known:
                raise FileExistsError(
                    f"{file} is there, but dataset.json does not list it, so that it is not overwritten; move it away."
                )
            if file.is_file() and not any(_is_written(self.folder, entry, part) for entry in known):
                raise FileExistsError(
                    f"{file} is not as it was imported, so that it is not overwritten, but its source has changed as "
                    "well; move it away, or put it into the source folder."
                )


def _imported(folder: Path) -> dict[str, Entry]:
    """Return the cases that an import has written into a folder, by name; none if it is another's."""
    file = folder / "dataset.json"
    entries = read_dataset_json(file).get("training") if file.is_file() else None
    ours = isinstance(entries, list) and all(isinstance(x, dict) and {"source", "written"} <= {*x} for x in entries)
    known = entries if ours and entries else ()
    return {Path(x["image"]).name.removesuffix(".nii.gz"): x for x in known}


def _is_written(folder: Path, entry: Entry, part: str) -> bool:
    """Tell whether a file of a case is as an import has written it."""
    file = folder / entry[part]
    return file.is_file() and file_digest(file) == entry["written"][part]
