"""Choose a network by the name of its architecture, as configs do.

"resnet" stands for the dilated ResNet of Med3D and the heads that the paper puts on it, "genesis" for the U-Net of
Models Genesis. Arguments of the ResNet, such as its depth, have no meaning for the U-Net and are not used there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from med3d_components.networks.classification import Med3DClassificationNet
from med3d_components.networks.genesis import GenesisUNet
from med3d_components.networks.genesis_transfer import GenesisClassificationNet, GenesisSegmentationNet
from med3d_components.networks.med3d import Med3DNet
from med3d_components.networks.restoration import Med3DRestorationNet
from med3d_components.networks.segmentation import Med3DSegmentationNet

__all__ = ["ARCHITECTURES", "classification_net", "coarse_net", "restoration_net", "segmentation_net"]

ARCHITECTURES = ("resnet", "genesis")


def segmentation_net(
    architecture: str, num_classes: int, **resnet: Any
) -> Med3DSegmentationNet | GenesisSegmentationNet:
    """Return a network that maps volumes (B, 1, H, W, D) to logits (B, num_classes, H, W, D).

    Args:
        architecture: "resnet" or "genesis".
        num_classes: background included.
        **resnet: further arguments of :class:`Med3DSegmentationNet`.

    Raises:
        ValueError: for another architecture, stages to freeze in the U-Net, or what the network refuses.

    Example:
        >>> segmentation_net("genesis", num_classes=3, depth=50).encoder.settings["architecture"]
        'genesis'
    """
    if _is_genesis(architecture, resnet):
        return GenesisSegmentationNet(num_classes)
    return Med3DSegmentationNet(num_classes, **resnet)


def classification_net(
    architecture: str, num_classes: int, dropout: float = 0.0, **resnet: Any
) -> Med3DClassificationNet | GenesisClassificationNet:
    """Return a network that maps volumes (B, 1, H, W, D) to logits (B, num_classes).

    Args:
        architecture: "resnet" or "genesis".
        num_classes: two or more.
        dropout: probability of dropping what the last layer sees during training.
        **resnet: further arguments of :class:`Med3DClassificationNet`.

    Raises:
        ValueError: as :func:`segmentation_net`.

    Example:
        >>> type(classification_net("genesis", num_classes=2, dropout=0.5)).__name__
        'GenesisClassificationNet'
    """
    if _is_genesis(architecture, resnet):
        return GenesisClassificationNet(num_classes, dropout)
    return Med3DClassificationNet(num_classes, dropout=dropout, **resnet)


def coarse_net(
    num_classes: Mapping[str, int], architecture: str = "resnet", **resnet: Any
) -> Med3DNet | GenesisSegmentationNet:
    """Return a network that finds something in a whole resized volume, see :class:`CascadeNet`.

    It maps volumes (B, 1, H, W, D) to logits (B, classes, H, W, D).

    Args:
        num_classes: name of the one domain to its number of classes, background included, such as ``{"liver": 2}``.
        architecture: "resnet" or "genesis".
        **resnet: further arguments of :class:`Med3DNet`.

    Raises:
        ValueError: unless there is one domain, and as :func:`segmentation_net`.

    Example:
        >>> coarse_net({"liver": 2}, depth=10).domains
        ['liver']
    """
    if len(num_classes) != 1:
        raise ValueError(f"num_classes of the coarse network is {num_classes!r}, but must have exactly one domain.")
    if _is_genesis(architecture, resnet):
        return GenesisSegmentationNet(*num_classes.values())
    return Med3DNet(num_classes, **resnet)


def restoration_net(architecture: str, **resnet: Any) -> Med3DRestorationNet | GenesisUNet:
    """Return a network that maps distorted volumes (B, 1, H, W, D) to restored ones of that shape, in 0 to 1.

    Args:
        architecture: "resnet" or "genesis".
        **resnet: arguments of :class:`Med3DRestorationNet`.

    Raises:
        ValueError: as :func:`segmentation_net`.

    Example:
        >>> sum(x.numel() for x in restoration_net("genesis").parameters())
        19073665
    """
    return GenesisUNet() if _is_genesis(architecture, resnet) else Med3DRestorationNet(**resnet)


def _is_genesis(architecture: str, resnet: Mapping[str, Any]) -> bool:
    """Tell which of the two it is, and refuse what would silently not be done."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}, but must be one of {', '.join(ARCHITECTURES)}.")
    if architecture == "genesis" and resnet.get("frozen_stages"):
        raise ValueError(
            f"frozen_stages is {resnet['frozen_stages']!r}, but these are stages of the ResNet: leave it out, or "
            "choose --architecture resnet."
        )
    return architecture == "genesis"
