"""Med3D: one shared encoder, one decoder branch per domain (Chen, Ma, Zheng 2019, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from med3d_components.networks.resnet import DilatedResNet, upsample_to
from med3d_components.networks.unet import UNetDecoder

__all__ = ["Med3DNet"]


class Med3DNet(nn.Module):
    """Segment volumes of many domains with a shared encoder and a branch for each domain.

    A branch is one 1x1x1 convolution on the deepest map and trilinear up-sampling to the input's size, as in the paper,
    or a :class:`UNetDecoder`. Branches are
    keyed by domain name in the checkpoint (``branches.<domain>.*``), so that adding, dropping or reordering
    domains leaves the other branches' weights unchanged.

    Args:
        num_classes: domain name to number of classes, background included.
        depth: of the encoder, see :class:`DilatedResNet`.
        default_domain: the branch that runs when ``forward`` is given only an image, as MONAI Label and exported
            networks do; by default the first of ``num_classes``.
        decoder: "paper" or "unet".
        deep_supervision: of "unet", see :class:`UNetDecoder`.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: if there is no domain, a name holds a dot (it is part of a parameter's name), a domain has fewer
            than two classes, or the default domain is not among them.

    Example:
        >>> network = Med3DNet({"Task04_Hippocampus": 3, "Task09_Spleen": 2}, depth=10)
        >>> network(torch.zeros(1, 1, 32, 32, 32), domain="Task09_Spleen").shape
        torch.Size([1, 2, 32, 32, 32])
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        depth: int = 50,
        default_domain: str | None = None,
        decoder: str = "paper",
        deep_supervision: bool | str = False,
        **encoder: Any,
    ) -> None:
        super().__init__()
        if not num_classes:
            raise ValueError("num_classes is empty, but at least one domain with its number of classes is needed.")
        for name, classes in num_classes.items():
            if "." in name:
                raise ValueError(f"Domain name {name!r} holds a dot, which parameter names cannot; rename the domain.")
            if classes < 2:
                raise ValueError(f"Domain {name!r} has {classes} classes, but needs 2 or more, background included.")
        self.default_domain = next(iter(num_classes)) if default_domain is None else default_domain
        self.domains = list(num_classes)
        self._check_domain(self.default_domain)
        self.encoder = DilatedResNet(depth, **encoder)
        self.branches = nn.ModuleDict()
        for name, classes in num_classes.items():
            self.branches[name] = (
                UNetDecoder(self.encoder, classes, deep_supervision=deep_supervision)
                if decoder == "unet"
                else LinearDecoder(self.encoder, classes)
            )

    def forward(self, x: torch.Tensor, domain: str | None = None) -> torch.Tensor:
        """Return the logits of one domain; the other branches do not run.

        Args:
            x: volumes of shape (B, in_channels, H, W, D), all of one domain.
            domain: name of the branch; the default domain when None.

        Returns:
            Logits of shape (B, classes of the domain, H, W, D).

        Raises:
            ValueError: if there is no such domain.
        """
        name = self.default_domain if domain is None else domain
        self._check_domain(name)
        maps = self.encoder(x)
        logits = maps[-1]
        for key, branch in self.branches.items():  # TorchScript cannot look a module up by a name
            if key == name:
                logits = branch(x, maps)
        return logits

    def _check_domain(self, name: str) -> None:
        if name not in self.domains:
            raise ValueError(f"There is no domain '{name}'; the network has {', '.join(self.domains)}.")


class LinearDecoder(nn.Conv3d):
    """The paper's branch: a 1x1x1 convolution of the deepest map and trilinear up-sampling.

    Args:
        encoder: whose maps are decoded.
        num_classes: background included.
    """

    def __init__(self, encoder: DilatedResNet, num_classes: int) -> None:
        super().__init__(encoder.channels[-1], num_classes, kernel_size=1)
        self.factors = [float(x) for x in encoder.output_stride]

    def forward(self, x: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        """Map volumes (B, in_channels, H, W, D) and the encoder's maps to logits (B, num_classes, H, W, D)."""
        return upsample_to(x, self._conv_forward(maps[-1], self.weight, self.bias), self.factors)
