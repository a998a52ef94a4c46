"""Several trained networks of one kind as one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from med3d_components.networks.cascade import CoarseStage

__all__ = ["CascadeEnsembleNet", "EnsembleNet"]


class EnsembleNet(nn.Module):
    """Average the probabilities of several networks: ``forward`` gives the logarithm of their mean.

    Argmax and softmax make of it what they make of one network's logits. Members run one after the other, so that it
    takes no more memory than one of them and two results. It is put together of trained networks and does not learn.

    Args:
        members: of one task, with the same classes; they map volumes (B, in_channels, H, W, D) to logits (B, C, ...).

    Raises:
        ValueError: for no member; when it is set to training mode.

    Example:
        >>> from med3d_components.networks.classification import Med3DClassificationNet
        >>> members = [Med3DClassificationNet(depth=10).eval() for _ in range(2)]
        >>> x = torch.rand(1, 1, 16, 16, 16)
        >>> mean = sum(member(x).softmax(1) for member in members) / 2
        >>> torch.allclose(EnsembleNet(members)(x).softmax(1), mean, atol=1e-6)
        True
    """

    __jit_unused_properties__ = ("encoder",)

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("members is empty, but at least one network is needed.")
        self.members = nn.ModuleList(members).eval()
        self.log_count = math.log(len(members))
        self.training = False

    @property
    def encoder(self) -> Any:
        """The encoder of the first member, which tells the settings of all."""
        return self.members[0].encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) to log-probabilities (B, C, ...) in float32."""
        total = torch.zeros(0)
        for index, member in enumerate(self.members):
            logs = member(x).float().log_softmax(1)
            total = torch.logaddexp(total, logs) if index > 0 else logs
        return total - self.log_count

    def train(self, mode: bool = True) -> EnsembleNet:
        """Refuse to learn; it is in evaluation mode always."""
        if mode:
            raise ValueError(
                "This model is an ensemble, which does not learn; train a network of its own, or go on with one of "
                "the trainings that it was put together of."
            )
        super().train(False)
        return self


class CascadeEnsembleNet(CoarseStage, EnsembleNet):
    """Average several fine networks of a cascade, and hold the one coarse network that finds the region for all.

    Args:
        members: fine networks, see :class:`EnsembleNet`.
        make_coarse: see :class:`CascadeNet`.
        coarse_checkpoint: see :class:`CascadeNet`.

    Attributes:
        rates: of the members.

    Raises:
        ValueError: for no member, or networks of different in_channels.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        make_coarse: Callable[[], nn.Module],
        coarse_checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(members)
        first: Any = members[0]
        self.rates = first.rates
        self.add_coarse(make_coarse, coarse_checkpoint)
