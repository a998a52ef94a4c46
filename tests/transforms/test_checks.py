from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from med3d_components.transforms import CheckHounsfieldd, CheckImaged


def test_volumes_that_no_normalisation_saves_are_refused() -> None:
    image = torch.rand(1, 4, 4, 4)
    assert CheckImaged("image")({"image": image})["image"] is image
    with pytest.raises(ValueError, match="all voxels of the image are 3"):
        CheckImaged("image")({"image": torch.full((1, 4, 4, 4), 3.0)})
    image[0, 1, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        CheckImaged("image")({"image": image})


def test_a_channel_that_says_nothing_is_called_by_its_number(abdomen: torch.Tensor) -> None:
    empty = torch.stack([torch.rand(4, 4, 4), torch.zeros(4, 4, 4)])
    with pytest.raises(ValueError, match="all voxels of channel 1 of the image are 0"):
        CheckImaged("image")({"image": empty})
    with pytest.raises(ValueError, match="channel 1 of the image is no CT in HU, but 1024 higher"):
        CheckHounsfieldd("image", RANGE)({"image": torch.cat([abdomen, abdomen + 1024])})


@pytest.fixture(scope="module")
def abdomen() -> torch.Tensor:
    """Return a body of soft tissue with bone, in air, with noise."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((1, 40, 40, 30), -1000.0)
    image[:, 8:32, 10:30] = 50
    image[:, 18:20, 25:27] = 1000
    return image + 20 * torch.randn(image.shape, generator=generator)


RANGE = (-200, 250)


@pytest.mark.parametrize("padding", [None, -2000.0, -3024.0])
def test_a_ct_in_hu_passes_whatever_surrounds_its_field_of_view(abdomen: torch.Tensor, padding: float | None) -> None:
    image = abdomen.clone()
    if padding is not None:
        image[:, :5] = padding
    assert CheckHounsfieldd("image", RANGE)({"image": image})["image"] is image


@pytest.mark.parametrize("padding", [None, -2000.0, -3024.0])
@pytest.mark.parametrize(
    ("offset", "message"), [(1024, "but 1024 higher: .+; take 1024 off"), (-1024, "but 1024 lower")]
)
def test_a_ct_that_is_1024_off_is_refused(
    abdomen: torch.Tensor, offset: int, message: str, padding: float | None
) -> None:
    image = abdomen + offset
    if padding is not None:
        image[:, :5] = padding
    with pytest.raises(ValueError, match=message):
        CheckHounsfieldd("image", RANGE)({"image": image})
    for other in (None, (0, 1)):  # no range in HU
        assert CheckHounsfieldd("image", other)({"image": image})["image"] is image


def test_a_scan_of_lung_alone_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    image = -860 + 60 * torch.randn(1, 30, 30, 30, generator=generator)
    image[:, 14:16, 14:16] = 30
    CheckHounsfieldd("image", (-1000, 400))({"image": image})


REAL = os.environ.get("MED3D_REAL_DATA")


@pytest.mark.skipif(not REAL, reason="MED3D_REAL_DATA names no folder of real volumes")
@pytest.mark.parametrize("path", ["example_ct/ct.nii.gz", "sarcoma/SarcomaCT/imagesTr/STS_019.nii.gz"])
def test_real_ct_passes_and_is_refused_where_it_is_1024_off(path: str) -> None:
    image = torch.as_tensor(np.asarray(nib.load(Path(str(REAL), path)).dataobj, np.float32))[None]
    CheckHounsfieldd("image", RANGE)({"image": image})
    for offset in (1024, -1024):
        with pytest.raises(ValueError, match=r"the image is no CT in HU, but 1024 (higher|lower)"):
            CheckHounsfieldd("image", RANGE)({"image": image + offset})
