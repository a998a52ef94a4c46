from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, Invertd, Orientationd

from med3d_components.transforms import InvertToLabelsd, MedianSpacingd

OPTIONS: dict[str, Any] = {"orig_keys": "image", "nearest_interp": False, "to_tensor": True}


def sample(classes: int, spacing: tuple[float, float, float]) -> tuple[Compose, dict[str, Any]]:
    """Return a preprocessing, and a turned image after it with probabilities on its grid."""
    torch.manual_seed(0)
    affine = torch.tensor([[0, 0, -2.5, 9], [-0.9, 0, 0, 5], [0, 1.2, 0, 4], [0, 0, 0, 1.0]])
    preprocessing = Compose([Orientationd("image", "RAS", labels=None), MedianSpacingd("image", spacing)])
    data = preprocessing({"image": MetaTensor(torch.rand(1, 21, 26, 13), affine=affine)})
    probabilities = torch.randn(classes, *data["image"].shape[1:]).mul(2).softmax(0)
    return preprocessing, {**data, "pred": MetaTensor(probabilities).copy_meta_from(data["image"])}


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (2.5, 0.9, 1.2), (0.7, 0.7, 0.7)])
@pytest.mark.parametrize("classes", [2, 5])
def test_labels_are_those_of_inverting_all_classes_together(classes: int, spacing: tuple[float, float, float]) -> None:
    preprocessing, data = sample(classes, spacing)
    before = data["pred"].clone()
    together = Compose([Invertd("pred", preprocessing, **OPTIONS), AsDiscreted("pred", argmax=True)])(data)["pred"]
    labels = InvertToLabelsd("pred", preprocessing, **OPTIONS)(data)["pred"]
    assert (labels.shape, labels.dtype) == ((1, 21, 26, 13), torch.uint8)
    assert torch.equal(labels.as_tensor().float(), together.as_tensor())
    assert len(labels.unique()) == classes
    assert torch.equal(labels.affine, together.affine)
    assert labels.meta.keys() == together.meta.keys()
    assert torch.equal(data["pred"], before)


def test_of_equal_probabilities_the_first_class_wins() -> None:
    preprocessing, data = sample(3, (1.5, 1.5, 1.5))
    data["pred"].fill_(1 / 3)
    assert not InvertToLabelsd("pred", preprocessing, **OPTIONS)(data)["pred"].any()


def test_more_classes_than_the_labels_can_tell_are_refused() -> None:
    preprocessing, data = sample(257, (4, 4, 4))
    with pytest.raises(ValueError, match="'pred' has 257 classes, but labels in uint8 can tell 256"):
        InvertToLabelsd("pred", preprocessing, **OPTIONS)(data)
