"""Which files belong together: the image and the label of each case, by their names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from med3d_components.data.folders import MASK_SUFFIXES, list_scans
from med3d_components.data.scan import case_name

__all__ = ["Pairs", "find_files", "name_files", "pair_files", "pair_folders", "same_form"]

Pairs = dict[str, tuple[Path, Path]]
"""Case name to the files of its image and its label."""


def pair_files(
    source: str | os.PathLike[str], images: str, labels: str, name: Callable[[Path], str] = case_name
) -> Pairs:
    """Pair the files of a folder, at any depth, that match two patterns.

    Args:
        source: folder.
        images: pattern of the images' file names.
        labels: pattern of the labels' file names.
        name: returns the name of the case that a file belongs to.

    Raises:
        FileNotFoundError: if no file matches, or an image has no label or the other way round.
        ValueError: if two files have one name.

    Example:
        >>> Path("lasc/patient_1").mkdir(parents=True)
        >>> Path("lasc/patient_1/lgemri.nrrd").touch()
        >>> Path("lasc/patient_1/laendo.nrrd").touch()
        >>> sorted(pair_files("lasc", "lgemri.nrrd", "laendo.nrrd", lambda path: path.parent.name))
        ['patient_1']
    """
    found, masks = (name_files(find_files(source, pattern), name) for pattern in (images, labels))
    return _match(found, masks, wanted=(images, labels))


def pair_folders(images: str | os.PathLike[str], labels: str | os.PathLike[str]) -> Pairs:
    """Pair the volumes of a folder with those of the same name in another.

    Where there is none, nnU-Net's ``_0000`` is left out of the image's name, and ``_seg`` or another of
    ``MASK_SUFFIXES`` out of the label's.

    Args:
        images: folder of files or DICOM series at any depth. A series has the name of its folder; below one that
            holds nothing else, that of the outermost, such as the patient's.
        labels: folder of files.

    Raises:
        FileNotFoundError: if a folder has no volume, or an image has no label or the other way round.
        ValueError: if both are one folder, two files have one name, or a DICOM folder holds no readable series.
    """
    if Path(images).resolve() == Path(labels).resolve():
        raise ValueError(f"{images} is given for images and labels; put the two into folders of their own.")
    volumes, masks = _list_files(images), _list_files(labels)
    label_names = set(masks.values())
    plain_names = {name.removesuffix(suffix) for name in label_names for suffix in ("", *MASK_SUFFIXES)}

    def name_image(path: Path) -> str:
        name = volumes[path]
        return name.removesuffix("_0000") if name not in plain_names else name

    def name_label(path: Path) -> str:
        name = masks[path]
        suffix = next((suffix for suffix in MASK_SUFFIXES if name.endswith(suffix)), "")
        return name if name in found else name.removesuffix(suffix)

    found = name_files(volumes, name_image)
    return _match(found, name_files(masks, name_label), wanted=(f"in {images}", f"in {labels}"))


def _list_files(folder: str | os.PathLike[str]) -> dict[Path, str]:
    """Return file, or DICOM series, to name of all volumes in a folder; print what is left out."""
    listing = list_scans(folder, masks=True)
    if listing.failures:
        raise ValueError(" ".join(dict.fromkeys(listing.failures.values())))
    for note in listing.notes:
        print(note)
    places = {
        name: Path(path if os.path.lexists(path) else path.rpartition("::")[0]).relative_to(folder)
        for name, path in listing.scans.items()
    }
    tops = Counter(place.parts[:1] for place in places.values())
    named = {}
    for name, path in listing.scans.items():
        if Path(path).is_file():
            named[Path(path)] = same_form(name)
        else:
            place = places[name]
            alone = tops[place.parts[:1]] == 1 and place.parts
            whole = place.parts[0] if alone else place.as_posix() if place.parts else Path(folder).name
            named[Path(path)] = same_form(whole)
    return named


def same_form(text: str) -> str:
    r"""Return a name in one of Unicode's forms: macOS stores "ä" as "a" and two dots, others as one letter.

    Example:
        >>> len("a\u0308"), len(same_form("a\u0308"))
        (2, 1)
    """
    return unicodedata.normalize("NFC", text)


def find_files(source: str | os.PathLike[str], pattern: str) -> list[Path]:
    """List the files of a folder, at any depth, whose name matches a pattern; 9 comes before 10.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = Path(source)
    files = [path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("._")]
    if not files:
        raise FileNotFoundError(
            f"There is no {pattern} in {folder} or below; give the folder of the unpacked download."
        )
    return sorted(files, key=lambda path: (len(path.name), path))


def name_files(files: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Return case name to file.

    Raises:
        ValueError: if two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files:
        case = same_form(name(path))
        if case in found:
            raise ValueError(f"{path} and {found[case]} are both case {case}; move one out of the source folder.")
        found[case] = path
    return found


def _match(images: Mapping[str, Path], labels: Mapping[str, Path], wanted: tuple[str, str]) -> Pairs:
    for here, there, partner in ((images, labels, wanted[1]), (labels, images, wanted[0])):
        for case, path in here.items():
            if case not in there:
                raise FileNotFoundError(
                    f"{path} has no partner {partner}; add it, or move the file out of the source folder."
                )
    return {case: (path, labels[case]) for case, path in images.items()}
