"""Download a task of the Medical Segmentation Decathlon (MSD), with MONAI's table of addresses and checksums."""

from __future__ import annotations

import tempfile
from pathlib import Path

from monai.apps import DecathlonDataset
from monai.apps.utils import HashCheckError, download_url, extractall

from med3d_components.data.dataset_json import read_dataset_json

__all__ = ["download_task"]


def download_task(task: str, folder: Path) -> None:
    """Download a task, check it and unpack it, unless its folder is there.

    Args:
        task: for example Task09_Spleen.
        folder: of the task. The archive lies beside it, and is used if it is there already.

    Raises:
        ValueError: if there is no such task, or the archive is damaged.
        OSError: if it cannot be downloaded.
        FileNotFoundError: if the folder holds no whole task.
        FileExistsError: if it holds synthetic sample data.
    """
    if task not in DecathlonDataset.resource:
        raise ValueError(f"There is no task {task!r}; choose one of {', '.join(DecathlonDataset.resource)}.")
    if not folder.exists():
        _unpack(_download(task, folder.parent), folder)
    dataset = folder / "dataset.json"
    if not dataset.is_file():
        raise FileNotFoundError(f"{folder} has no dataset.json, so it is not a whole task; move it away and run again.")
    if "synthetic" in read_dataset_json(dataset):
        raise FileExistsError(f"{folder} holds synthetic sample data; choose another folder for the real task.")
    for stray in folder.rglob("._*"):  # left by the computer that packed the archive; they look like volumes
        stray.unlink()


def _download(task: str, folder: Path) -> Path:
    """Return the archive of a task, downloaded unless it is there."""
    url, archive = DecathlonDataset.resource[task], folder / f"{task}.tar"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        download_url(url, archive, hash_val=DecathlonDataset.md5[task], hash_type="md5")
    except HashCheckError as error:
        raise ValueError(f"{url} or {archive} is damaged (wrong md5); delete the archive and run again.") from error
    except (OSError, RuntimeError) as error:
        raise OSError(f"No download ({error}). Get {url} by hand, save it as {archive} and run again.") from error
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive so that its folder appears when it is complete."""
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as temporary:
        extractall(archive, temporary)
        Path(temporary, folder.name).replace(folder)
