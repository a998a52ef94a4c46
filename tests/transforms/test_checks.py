from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from med3d_components.transforms import CheckImaged, CheckLabeld


def test_volumes_that_no_normalisation_saves_are_refused() -> None:
    image = torch.rand(1, 4, 4, 4)
    assert CheckImaged("image")({"image": image})["image"] is image
    with pytest.raises(ValueError, match="all voxels of the image are 3"):
        CheckImaged("image")({"image": torch.full((1, 4, 4, 4), 3.0)})
    image[0, 1, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        CheckImaged("image")({"image": image})


@pytest.mark.parametrize("value", [-1.0, 2.0, 0.5])
def test_label_values_outside_the_declared_set_are_named_with_their_file(value: float) -> None:
    label = MetaTensor(torch.ones(1, 4, 4, 4), meta={"filename_or_obj": "label.nii"})
    check = CheckLabeld("label", {"a": 2})
    check({"label": label, "domain": "a"})
    label[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"label label\.nii holds the values .*{value:g}.* declares 0 to 1"):
        check({"label": label, "domain": "a"})
