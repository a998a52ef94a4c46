"""The training of a bundle on random volumes: two steps of it, without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.engines.utils import IterationEvents

from med3d_components.engines import PrecisionTrainer
from med3d_components.utils.causes import root_cause
from med3d_components.utils.command_line import check_known
from med3d_components.utils.options import is_expression
from med3d_components.utils.preflight import check_options

__all__ = ["RandomBatches", "bundle_trainer", "default_setting"]

STEPS = 2
"""The optimizer makes its state in the first step, so that the second needs more memory, as all after it."""

DOMAIN = "Rehearsal"


class RandomBatches:
    """Batches as a bundle's data loader makes them, of random intensities and of labels that are all background.

    Args:
        shape: of a batch of images, (B, C, H, W, D).
        per_volume: one label for each volume of the batch, as of a classification, rather than one for each voxel.
        device: where they are made.

    Example:
        >>> next(iter(RandomBatches((2, 1, 8, 8, 8), per_volume=True)))["label"].shape
        torch.Size([2])
    """

    def __init__(self, shape: Sequence[int], per_volume: bool = False, device: torch.device | str = "cpu") -> None:
        self.shape = tuple(shape)
        self.per_volume = per_volume
        self.device = device

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(STEPS):
            image = torch.rand(self.shape, device=self.device)
            label = torch.zeros(len(image), dtype=torch.int64, device=self.device)
            yield {
                "image": image,
                "label": label if self.per_volume else torch.zeros_like(image[:, :1]),
                "domain": [DOMAIN] * len(image),
            }


def default_setting(bundle: Path) -> tuple[list[int], int]:
    """Return the patch size (H, W, D) and the batch size that a bundle trains on if nothing is said.

    Args:
        bundle: folder of the bundle.

    Raises:
        FileNotFoundError: if there is no such bundle.
    """
    config = _read_training(bundle)
    return list(config["patch_size"]), int(config["batch_size"])


def bundle_trainer(
    bundle: Path, patch_size: Sequence[int], batch_size: int, num_classes: int = 2, **options: Any
) -> PrecisionTrainer:
    """Return the trainer of a bundle, which ``run()`` lets make two steps without data, reports and checkpoints.

    Network, loss, optimizer, precision and the way a batch goes through them are those of the bundle's train.json.
    What only data tell is made up: one domain, ``num_classes`` classes, and for the second stage of the liver
    segmentation the coarse network that its bundle makes by default.

    Args:
        bundle: folder of the bundle.
        patch_size: voxels (H, W, D) of the volumes.
        batch_size: of the bundle; where a scan gives several cubes, the batch has that many times more.
        num_classes: background included; where the bundle fixes them, or restores images, it changes nothing.
        **options: of the bundle's train.json, such as ``depth=18``.

    Raises:
        FileNotFoundError: if there is no such bundle.
        ValueError: for an option that the bundle does not have, a patch size that is not three positive integers, a
            batch size that is none, or what the bundle's network refuses.

    Example:
        >>> bundle = Path(__file__).parents[2] / "bundles" / "lung_segmentation"
        >>> bundle_trainer(bundle, (16, 16, 16), 1, depth=10).run()
    """
    config = _read_training(bundle)
    for name in options:
        check_known(name, config, f"the bundle {bundle.name}")
    options |= {"patch_size": list(patch_size), "batch_size": batch_size}
    config |= options
    check_options(config)
    config |= _stand_ins(bundle, config, num_classes, patch_size)
    if config["precision"] == "fp16":
        config["precision"] = "bf16"  # of the same size; the scaler of fp16 reads values, and fake ones have none
    config["train"] |= {
        "dataloader": {
            "_target_": f"{__name__}.RandomBatches",
            "shape": [batch_size * config.get("cubes_per_scan", 1), config.get("in_channels", 1), *patch_size],
            # The name tells the kind of a bundle, as to MONAI Label.
            "per_volume": bundle.name.endswith("classification"),
            "device": "@device",
        },
        "handlers": [],
    }
    # To decollate is to read the loss, and a fake one has no value.
    config["train"]["trainer"] |= {"max_epochs": 1, "decollate": False}
    trainer = _build(config)
    # So is to look whether it is a number.
    trainer.remove_event_handler(trainer.note_loss, IterationEvents.LOSS_COMPLETED)
    trainer.remove_event_handler(trainer.check_gradients, IterationEvents.BACKWARD_COMPLETED)
    return trainer


def _build(config: dict[str, Any]) -> PrecisionTrainer:
    parser = ConfigParser(config)
    try:
        with parser.get_parsed_content("device"):
            return parser.get_parsed_content("train#trainer")
    except RuntimeError as error:
        cause = root_cause(error)
        if isinstance(cause, ValueError):
            raise ValueError(str(cause)) from error
        raise


def _read_training(bundle: Path) -> dict[str, Any]:
    path = bundle / "configs" / "train.json"
    if not path.is_file():
        known = sorted(one.parents[1].name for one in bundle.parent.glob("*/configs/train.json"))
        raise FileNotFoundError(f"There is no bundle {bundle.name}; there are {', '.join(known)}.")
    return dict(ConfigParser.load_config_file(path))


def _stand_ins(bundle: Path, config: Mapping[str, Any], num_classes: int, patch_size: Sequence[int]) -> dict[str, Any]:
    """Return what takes the place of data, of other bundles' results, and of what fake tensors cannot do."""
    names = [f"class {value}" for value in range(num_classes)]
    found: dict[str, Any] = {
        "python_path": None,
        "network": "@network_def",  # made on the device: fake tensors cannot move
        "datalist": {
            "_target_": "types.SimpleNamespace",
            "name": DOMAIN,
            "domains": [DOMAIN],
            "classes": {DOMAIN: names} if "domains" in config else names,
            "class_weights": [1.0] * num_classes,
            "roi_size": patch_size,
        },
    }
    if "coarse" in config:
        coarse = _read_training(bundle.with_name("liver_ct_coarse_segmentation"))
        if not is_expression(config["in_channels"]):
            coarse["in_channels"] = config["in_channels"]
        network = ConfigParser(coarse).get_parsed_content("network_settings")
        found["coarse"] = {"network": network, "intensity_range": [0, 1], "output_range": [0, 1]}
        found["coarse_checkpoint"] = None
    return found
