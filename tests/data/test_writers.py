from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from med3d_components.data.writers import AtomicNibabelWriter

WRITER = "med3d_components.data.AtomicNibabelWriter"


def save(folder: Path, volume: torch.Tensor) -> None:
    affine = torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0]))
    mask = MetaTensor(volume, affine=affine, meta={"filename_or_obj": "ct.nrrd"})
    SaveImage(folder, output_postfix="seg", separate_folder=False, writer=WRITER)(mask)


def test_a_mask_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, torch.ones(1, 3, 4, 5))
    written = nib.load(tmp_path / "ct_seg.nii.gz")
    assert written.shape == (3, 4, 5)
    assert np.allclose(written.affine, np.diag([2, 1, 1, 1]))

    def stop(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(nib, "save", stop)
    writer = AtomicNibabelWriter()
    writer.set_data_array(torch.zeros(1, 3, 4, 5))
    writer.set_metadata({})
    with pytest.raises(OSError, match="the disk is full"):
        writer.write(tmp_path / "ct_seg.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["ct_seg.nii.gz"]
    assert nib.load(tmp_path / "ct_seg.nii.gz").get_fdata().sum() == 60
