"""The command line of scripts/prepare_data.py, run in this process, and files like those of its downloads."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "prepare_data.py"
SPACING, ORIGIN = (0.6, 0.7, 1.25), (10.0, -20.0, 30.0)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; return its exit code, and what it printed to stdout and stderr."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, arguments)])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return command


def last_line(text):
    return text.strip().splitlines()[-1]


def volume(shape=(6, 8, 5)):
    return np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)


def mask(shape=(6, 8, 5), value=255):
    label = np.zeros(shape, np.uint8)
    label[2:4, 2:6, 1:3] = value
    return label


def write_nrrd(path, array, origin=ORIGIN):
    """Write an array indexed [x, y, z] with a direction that is not the identity."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.image_from_array(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING)
    image.SetOrigin(origin)
    image.SetDirection(itk.matrix_from_array(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])))
    itk.imwrite(image, str(path))


def write_lasc(source, *cases):
    for case in cases:
        write_nrrd(source / case / "lgemri.nrrd", volume())
        write_nrrd(source / case / "laendo.nrrd", mask())


def write_lits(source, *numbers):
    affine = np.diag([-0.8, 0.8, 2.5, 1])
    for number, folder in zip(numbers, ("Training Batch 1", "Training Batch 2") * len(numbers), strict=False):
        (source / folder).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(volume().astype(np.int16) - 900, affine)
        label = nib.Nifti1Image(mask(value=1 + number % 2), affine)
        nib.save(image, source / folder / f"volume-{number}.nii")
        nib.save(label, source / folder / f"segmentation-{number}.nii")


def write_affine(path, affine):
    voxels = nib.load(path, mmap=False).get_fdata().astype(np.uint8)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def write_spacing(path, spacing):
    """Write a spacing into a .nii file, and no affine, without any check."""
    data = bytearray(path.read_bytes())
    data[80:92] = np.array(spacing, "<f4").tobytes()  # pixdim
    data[252:256] = bytes(4)  # codes of qform and sform
    path.write_bytes(data)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
