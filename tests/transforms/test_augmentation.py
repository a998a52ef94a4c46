"""Random rotation and scaling in mm, and nnU-Net's changes of intensity."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor

from med3d_components.transforms import ModernAugmentationd, RandRotateScaled

SPACING = (1.0, 1.0, 4.0)


def scan(seed: int = 0) -> dict[str, MetaTensor]:
    """Return a smooth volume with slices of 4 mm, and a box."""
    coordinates = np.meshgrid(*(np.linspace(-2, 2, n) for n in (40, 36, 12)), indexing="ij")
    volume = torch.as_tensor(sum(np.sin((k + 1 + seed) * x) for k, x in enumerate(coordinates)), dtype=torch.float32)
    label = torch.zeros(40, 36, 12)
    label[10:25, 8:20, 3:8] = 2
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    return {"image": MetaTensor(volume[None], affine), "label": MetaTensor(label[None], affine)}


def test_a_volume_turns_in_mm_about_its_centre_as_simpleitk_turns_it() -> None:
    turn = RandRotateScaled(["image", "label"], prob=1).set_random_state(2)
    before = scan()
    after = turn(before)
    image = SimpleITK.GetImageFromArray(before["image"][0].numpy().transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(turn.matrix.ravel())
    transform.SetCenter([(n - 1) / 2 * mm for n, mm in zip(before["image"].shape[1:], SPACING, strict=True)])
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, transform, SimpleITK.sitkLinear, -9.0)).transpose(
        2, 1, 0
    )
    inside = theirs > -8  # beyond the volume theirs has nothing, ours its border
    assert inside.mean() > 0.3
    assert np.abs(after["image"][0].numpy() - theirs)[inside].max() < 1e-3
    assert set(after["label"].unique().tolist()) == {0, 2}


def test_angles_and_factors_have_nnu_nets_probabilities_and_ranges() -> None:
    turn = RandRotateScaled("image").set_random_state(0)
    factors, turned = [], 0
    for _ in range(2000):
        turn.randomize()
        factor = float(np.cbrt(np.linalg.det(turn.matrix)))
        turned += not np.allclose(turn.matrix, np.eye(3) * factor)
        factors.append(1 / factor)
    changed = np.array([factor for factor in factors if abs(factor - 1) > 1e-9])
    assert 0.16 < turned / 2000 < 0.24
    assert 0.16 < len(changed) / 2000 < 0.24
    assert 0.7 <= changed.min() < 0.75
    assert 1.35 < changed.max() <= 1.4
    assert 0.4 < (changed < 1).mean() < 0.6


def test_a_seed_repeats_everything_and_labels_keep_their_classes() -> None:
    augment = ModernAugmentationd(["image", "label"])
    first = [augment.set_random_state(seed)(scan()) for seed in range(12)]
    again = [augment.set_random_state(seed)(scan()) for seed in range(12)]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert set(one["label"].unique().tolist()) <= {0, 2}
        assert torch.isfinite(one["image"]).all()
    assert sum(not torch.equal(one["image"], scan()["image"]) for one in first) > 6


@pytest.mark.parametrize("changed", ["label", "image"])
def test_a_label_moves_with_its_image_alone(changed: str) -> None:
    augment = ModernAugmentationd(["image", "label"])
    moved = {"image": 0, "label": 0}
    for seed in range(60):
        after = augment.set_random_state(seed)(scan())
        for key in moved:
            moved[key] += not torch.equal(after[key], scan()[key])
    # 36 % of the labels turn or scale; most images change.
    low, high = {"label": (10, 34), "image": (40, 60)}[changed]
    assert low <= moved[changed] <= high
