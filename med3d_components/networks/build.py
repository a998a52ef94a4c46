"""Build a network from settings: from those of a config, and again from those that a training wrote.

"resnet" stands for the dilated ResNet of Med3D, with the decoder that the paper puts on it or, with "unet", one with
skip connections; "genesis" stands for the U-Net of Models Genesis. Settings of the ResNet, such as its depth, have no
meaning for the latter and are not used there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import nn

from med3d_components.networks.cascade import CascadeNet
from med3d_components.networks.classification import Med3DClassificationNet
from med3d_components.networks.dense_aspp import Med3DDenseASPPNet
from med3d_components.networks.ensemble import CascadeEnsembleNet, EnsembleNet
from med3d_components.networks.genesis import GenesisUNet
from med3d_components.networks.genesis_transfer import GenesisClassificationNet, GenesisSegmentationNet
from med3d_components.networks.med3d import Med3DNet
from med3d_components.networks.resnet import Stride, total_stride
from med3d_components.networks.restoration import Med3DRestorationNet
from med3d_components.networks.segmentation import Med3DSegmentationNet
from med3d_components.networks.unet import Med3DUNet
from med3d_components.utils import as_flag

__all__ = ["ARCHITECTURES", "DECODERS", "NETWORKS", "build_network", "output_stride"]

ARCHITECTURES = ("resnet", "genesis")

DECODERS = ("paper", "unet")

NETWORKS: Mapping[str, Mapping[str, Callable[..., nn.Module]]] = {
    "domains": {"resnet": Med3DNet, "unet": partial(Med3DNet, decoder="unet")},
    "segmentation": {"resnet": Med3DSegmentationNet, "unet": Med3DUNet, "genesis": GenesisSegmentationNet},
    "classification": {"resnet": Med3DClassificationNet, "genesis": GenesisClassificationNet},
    "coarse": {"resnet": Med3DNet, "unet": partial(Med3DNet, decoder="unet"), "genesis": GenesisSegmentationNet},
    "cascade": {"resnet": CascadeNet, "unet": partial(CascadeNet, decoder="unet")},
    "restoration": {"resnet": Med3DRestorationNet, "genesis": GenesisUNet},
}
"""Task to network, by the architecture or, where it is a ResNet with the decoder "unet", by that."""

ENSEMBLES = ("segmentation", "classification", "coarse", "cascade")
"""Tasks of which several networks can be one."""

RESNET_ONLY = ("depth", "shortcut_type", "dilations", "preactivation", "strides", "widths")


def build_network(settings: Mapping[str, Any], frozen_stages: Sequence[str] = (), **training: Any) -> nn.Module:
    """Return a network in evaluation mode; its ``settings`` are those that build it again.

    Args:
        settings: the task, see ``NETWORKS``; the architecture, by default "resnet"; the decoder, by default "paper";
            and arguments of the network's class. The coarse network of a cascade has settings of its own under
            "coarse", and one domain. With "members", so many networks of these settings are one, see
            :class:`EnsembleNet`.
        frozen_stages: of the ResNet, that do not learn.
        **training: arguments of the network's class that matter in training only, such as dropout, or that choose
            among what was trained, as the domain does.

    Raises:
        ValueError: for another task, architecture or decoder, a decoder or deep supervision that do not go with the
            architecture, stages to freeze in the U-Net, a coarse network that does not
            have exactly one domain, members of another task than a segmentation or a classification, or what the
            network refuses.

    Example:
        >>> network = build_network({"task": "segmentation", "num_classes": 3, "depth": 10})
        >>> network.settings["shortcut_type"], network.training
        ('B', False)
    """
    arguments = {**settings, **training}
    task, architecture = arguments.pop("task"), arguments.pop("architecture", "resnet")
    decoder, members = arguments.pop("decoder", "paper"), arguments.pop("members", None)
    if task not in NETWORKS:
        raise ValueError(f"task is {task!r}, but must be one of {', '.join(NETWORKS)}.")
    architectures = [name for name in ARCHITECTURES if name in NETWORKS[task]]
    if architecture not in architectures:
        raise ValueError(f"architecture is {architecture!r}, but must be one of {', '.join(architectures)}.")
    if decoder not in DECODERS:
        raise ValueError(f"decoder is {decoder!r}, but must be one of {', '.join(DECODERS)}.")
    if decoder == "unet" and architecture == "genesis":
        raise ValueError("decoder is 'unet', but the U-Net of Models Genesis has its own: leave --decoder out.")
    kind = decoder if decoder == "unet" else architecture
    if decoder == "unet":
        arguments.pop("widths", None)
    elif as_flag("deep_supervision", arguments.pop("deep_supervision", False)):
        raise ValueError("deep_supervision needs the levels of --decoder unet; leave it out.")
    if architecture == "genesis":
        if frozen_stages:
            raise ValueError(
                f"frozen_stages is {frozen_stages!r}, but these are stages of the ResNet: leave it out, or "
                "choose --architecture resnet."
            )
        arguments = {name: value for name, value in arguments.items() if name not in RESNET_ONLY}
    elif frozen_stages:
        arguments["frozen_stages"] = frozen_stages
    if task == "coarse":
        if len(arguments["num_classes"]) != 1:
            domains = arguments["num_classes"]
            raise ValueError(f"num_classes of the coarse network is {domains!r}, but must have exactly one domain.")
        if architecture == "genesis":
            (arguments["num_classes"],) = arguments["num_classes"].values()
    if task == "cascade":
        arguments["make_coarse"] = partial(build_network, arguments.pop("coarse"))
    network: Any = NETWORKS[task][kind](**arguments) if members is None else _ensemble(task, kind, members, arguments)
    network.settings = {**settings, **network.eval().encoder.settings}
    if task == "cascade":
        network.settings |= {"coarse": network.coarse.settings, "rates": list(network.rates), "scaled": False}
    return cast("nn.Module", network)


def _ensemble(task: str, kind: str, members: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """Return several networks as one."""
    if task not in ENSEMBLES:
        raise ValueError(f"members is {members!r}, but a network of the task {task!r} has none; leave it out.")
    if not isinstance(members, int) or members < 1:
        raise ValueError(f"members is {members!r}, but must be the number of networks, 1 or more.")
    if task != "cascade":
        return EnsembleNet([NETWORKS[task][kind](**arguments) for _ in range(members)])
    stage = {name: arguments[name] for name in ("make_coarse", "coarse_checkpoint") if name in arguments}
    fine = {name: value for name, value in arguments.items() if name not in stage}
    decoder = "unet" if kind == "unet" else "paper"
    return CascadeEnsembleNet([Med3DDenseASPPNet(**fine, decoder=decoder) for _ in range(members)], **stage)


def output_stride(strides: Sequence[Sequence[int]], architecture: str = "resnet") -> Stride:
    """Return the factor between a volume and the encoder's deepest map along each axis, before there is a network.

    Args:
        strides: see :class:`DilatedResNet`; the U-Net of Models Genesis has none to choose.
        architecture: see :func:`build_network`.

    Example:
        >>> output_stride([[2, 2, 1], [2, 2, 1], [2, 2, 2]])
        (8, 8, 2)
    """
    return GenesisUNet.output_stride if architecture == "genesis" else total_stride(strides)
