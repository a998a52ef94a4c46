from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from med3d_components.data import MultiDomainDatalist
from med3d_components.data.sides import has_sides
from med3d_components.transforms import RandFlipLeftRightd
from tests.conftest import BUNDLES, MakeDomain

KIDNEYS = ["background", "kidney_left", "kidney_right"]
LIVER = ["background", "liver"]
DRAWS = 400
RAMP = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 3, 2)


def share_of_mirrored(flip: RandFlipLeftRightd, domain: str) -> float:
    """Return in which share of the draws image and label were mirrored, both or none."""
    mirrored = 0
    for _ in range(DRAWS):
        sample = flip({"image": RAMP, "label": RAMP + 1, "domain": domain})
        assert torch.equal(sample["image"] + 1, sample["label"])
        assert torch.equal(sample["image"], RAMP) or torch.equal(sample["image"], RAMP.flip(1))
        mirrored += not torch.equal(sample["image"], RAMP)
    return mirrored / DRAWS


@pytest.mark.parametrize(("flip", "kidneys", "liver"), [(None, 0, 0.5), (True, 0.5, 0.5), ("false", 0, 0)])
def test_half_of_the_volumes_are_mirrored_but_none_whose_classes_tell_sides(
    flip: bool | str | None, kidneys: float, liver: float
) -> None:
    transform = RandFlipLeftRightd(["image", "label"], {"kidneys": KIDNEYS, "liver": LIVER}, flip).set_random_state(0)
    assert share_of_mirrored(transform, "kidneys") == pytest.approx(kidneys, abs=0.08)
    assert share_of_mirrored(transform, "liver") == pytest.approx(liver, abs=0.08)


@pytest.mark.parametrize(
    "names",
    [["lung_right", "lung_left"], ["kidney_left"], ["left atrium"], ["right"], ["liver", "LtKidney"], ["Kidney (R)"]]
    + [[name] for name in ("LKidney", "RVentricle", "leftkidney", "kidneyleft", "LEFTKIDNEY", "hipright", "KidneyL")]
    + [[name] for name in ("lh_hippocampus", "ctx-rh-cuneus", "Kidney Lft", "leftmost rib")],
)
def test_one_class_that_names_a_side_is_enough(names: list[str]) -> None:
    assert has_sides(["background", *names])


@pytest.mark.parametrize(
    "names",
    [
        *(["liver", "tumour"], ["bilateral lungs", "upright"], ["left and right lung"], []),
        *(["cleft", "bright spot", "leftover tissue"], ["CTLung", "LGELesion", "RUL"]),
    ],
)
def test_other_classes_tell_no_side(names: list[str]) -> None:
    assert not has_sides(["background", *names])


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ({"kidneys": KIDNEYS, "liver": LIVER}, ["Not mirrored, since a class tells a side: kidneys."]),
        (KIDNEYS, ["No volume is mirrored, since a class tells a side."]),
        (LIVER, []),
    ],
)
def test_what_is_not_mirrored_is_said_once(
    classes: dict[str, list[str]] | list[str], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flip = RandFlipLeftRightd("image", classes)
    for domain in ("kidneys", "kidneys") if isinstance(classes, dict) else ():
        flip({"image": RAMP, "domain": domain})
    assert caplog.messages == told


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="flip_left_right is 'maybe', but must be true or false"):
        RandFlipLeftRightd("image", LIVER, "maybe")


def test_the_pretraining_never_mirrors_a_domain_with_sides(tmp_path: Path, make_domain: MakeDomain) -> None:
    for name, classes in (("Kidneys", KIDNEYS), ("Liver", LIVER)):
        folder = make_domain(tmp_path / name, classes=len(classes))
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        description["labels"] = {str(value): label for value, label in enumerate(classes)}
        (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    (bundle,) = (path for path in BUNDLES if path.name == "med3d_pretraining")
    parser = ConfigParser(json.loads((bundle / "configs" / "train.json").read_text(encoding="utf-8")))
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(tmp_path)
    parser["cropping"] = []
    transforms = Compose(parser.get_parsed_content("random_transforms")).set_random_state(0)
    mirrored = {}
    for item in MultiDomainDatalist(str(tmp_path)).training:
        draws = [
            transforms({"image": RAMP, "label": RAMP, "domain": item["domain"]})["label"] for _ in range(DRAWS // 4)
        ]
        mirrored[item["domain"]] = sum(not torch.equal(label, RAMP) for label in draws) / len(draws)
    assert mirrored["Kidneys"] == 0
    assert mirrored["Liver"] == pytest.approx(0.5, abs=0.15)
