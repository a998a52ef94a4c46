"""What many tests need: small domains in real files, and a command line."""

from __future__ import annotations

import json
import locale
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.warm_python import run_module

ROOT = Path(__file__).parents[1]
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))

MakeDomain = Callable[..., Path]
RunBundle = Callable[..., str]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Look for doctests in no helper: some are programs, which run when they are imported."""
    return True if collection_path.is_file() and not collection_path.name.startswith(("test_", "conftest")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What they add to the coverage of the package is not worth the time: tracing makes torch half as fast.
    whole = [Path(__file__).parent / name for name in ("bundles", "scripts")]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in whole):
            item.add_marker("no_cover")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
        if item.get_closest_marker("device") and shutil.which(os.environ.get("CXX", "c++")) is None:
            item.add_marker(pytest.mark.skip(reason="there is no C++ compiler, which builds the emulated device"))


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """Keep the locale, which ITK's writer of DICOM leaves at C; Python opens text as ASCII then."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(autouse=True)
def same_log_level() -> Iterator[None]:
    """Keep the level of the root logger, which the logging.conf of a bundle sets."""
    before = logging.root.level
    yield
    logging.root.setLevel(before)


@pytest.fixture
def make_domain() -> MakeDomain:
    """Write a domain of bright boxes in noise, in Medical Segmentation Decathlon layout."""
    return write_domain


def write_domain(
    folder: Path,
    cases: int = 4,
    size: Sequence[int] = (24, 28, 20),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    classes: int = 2,
    seed: int = 0,
) -> Path:
    generator = np.random.default_rng(seed)
    training = []
    for case in range(cases):
        label = np.zeros(size, np.uint8)
        for value in range(1, classes):
            start = [int(generator.integers(2, length - 12)) for length in size]
            label[tuple(slice(low, low + 10) for low in start)] = value
        image = (100 * label + generator.normal(200, 20, size)).astype(np.float32)
        for kind, volume in (("images", image), ("labels", label)):
            path = folder / f"{kind}Tr" / f"case_{case}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, np.diag([*spacing, 1.0])), path)
        training.append({"image": f"./imagesTr/case_{case}.nii.gz", "label": f"./labelsTr/case_{case}.nii.gz"})
    labels = {str(value): f"class {value}" if value else "background" for value in range(classes)}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "training": training}))
    return folder


@pytest.fixture
def run_bundle() -> RunBundle:
    """Run ``python -m monai.bundle`` in a process of its own and return what it printed."""

    def run(*arguments: object, cwd: Path = ROOT, fails: bool = False) -> str:
        done = run_module("monai.bundle", *arguments, folder=cwd)
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    return run
