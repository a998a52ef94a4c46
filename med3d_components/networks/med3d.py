"""Med3D: one shared encoder, one decoder branch per domain (Chen, Ma, Zheng 2019, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from med3d_components.networks.resnet import DilatedResNet, upsample_to

__all__ = ["Med3DNet"]


class Med3DNet(nn.Module):
    """Segment volumes of many domains with a shared encoder and a branch for each domain.

    A branch is one 1x1x1 convolution on the deepest map and trilinear up-sampling to the input's size. Branches are
    keyed by domain name in the checkpoint (``branches.<domain>.weight``), so that adding, dropping or reordering
    domains leaves the other branches' weights unchanged.

    Args:
        num_classes: domain name to number of classes, background included.
        depth: of the encoder, see :class:`DilatedResNet`.
        default_domain: the branch that runs when ``forward`` is given only an image, as MONAI Label and exported
            networks do; by default the first of ``num_classes``.
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
        self.branches = nn.ModuleDict(
            {name: nn.Conv3d(self.encoder.channels[-1], classes, 1) for name, classes in num_classes.items()}
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
        feature = self.encoder(x)[-1]
        logits = feature
        for key, branch in self.branches.items():  # TorchScript cannot look a module up by a name
            if key == name:
                logits = branch(feature)
        return upsample_to(x, logits)

    def _check_domain(self, name: str) -> None:
        if name not in self.domains:
            raise ValueError(f"There is no domain '{name}'; the network has {', '.join(self.domains)}.")
