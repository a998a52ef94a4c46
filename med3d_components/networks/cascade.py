"""The two stages of the Med3D liver segmentation in one network (Chen, Ma, Zheng 2019, LiTS)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from med3d_components.networks.dense_aspp import Med3DDenseASPPNet

if TYPE_CHECKING:
    from med3d_components.weights import LoadReport

__all__ = ["CascadeNet", "CoarseStage"]

Stage = TypeVar("Stage", bound="CoarseStage")


class CoarseStage(nn.Module):
    """What a network of the second stage has beside itself: the trained coarse network, as its part ``coarse``.

    So one checkpoint and one TorchScript file have both stages. The coarse network never learns: it has neither
    gradients nor a training mode.
    """

    def add_coarse(
        self, make_coarse: Callable[[], nn.Module], coarse_checkpoint: str | os.PathLike[str] | None = None
    ) -> None:
        """Make the coarse network and load it.

        Args:
            make_coarse: makes it; it has one domain.
            coarse_checkpoint: file to load it from, see :meth:`load_coarse`; None where the weights of both networks
                are loaded afterwards.

        Raises:
            ValueError: if it sees other channels than the fine one.
        """
        self.coarse = make_coarse().requires_grad_(False).eval()
        parts: list[Any] = [self.coarse, self]
        coarse, own = (part.encoder.settings["in_channels"] for part in parts)
        if coarse != own:
            raise ValueError(
                f"The coarse network has in_channels {coarse} and the fine one {own}, but both see the same scans; "
                f"give --in_channels {coarse}, or a --coarse_checkpoint of {own}."
            )
        if coarse_checkpoint is not None:
            self.load_coarse(coarse_checkpoint)

    @torch.jit.export
    def locate(self, x: torch.Tensor) -> torch.Tensor:
        """Map whole resized volumes (B, in_channels, H, W, D) to the coarse network's logits (B, classes, H, W, D)."""
        return self.coarse(x)

    def train(self: Stage, mode: bool = True) -> Stage:
        """Set the training mode of the fine network; the coarse one goes on using its BatchNorm statistics."""
        super().train(mode)
        self.coarse.eval()
        return self

    def load_coarse(self, path: str | os.PathLike[str]) -> LoadReport:
        """Load the coarse network from a checkpoint of its own training, or of a cascade, strictly.

        Args:
            path: of a state_dict, such as ``model.pt`` of the coarse or of the fine bundle.

        Returns:
            What was loaded.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not fit the coarse network, which is unchanged then.

        Example:
            >>> from med3d_components.networks.med3d import Med3DNet
            >>> network = CascadeNet(lambda: Med3DNet({"liver": 2}, depth=10), depth=10, roi_size=(64, 64, 64))
            >>> torch.save(network.coarse.state_dict(), "model.pt")
            >>> network.load_coarse("model.pt").share
            1.0
        """
        from med3d_components.weights import load_checkpoint  # that module imports this package

        return load_checkpoint(self.coarse, path, part="coarse")


class CascadeNet(CoarseStage, Med3DDenseASPPNet):
    """Hold the fine network, which learns, and the trained coarse one that finds the region for it.

    The network is the fine one: ``forward`` and ``encoder`` are of the second stage.

    Args:
        make_coarse: makes the coarse network, which has one domain, after the fine one.
        coarse_checkpoint: file to load the coarse network from, see :meth:`load_coarse`; None where the weights of both
            networks are loaded afterwards.
        **fine: arguments of the fine network, see :class:`Med3DDenseASPPNet`.

    Raises:
        ValueError: for an argument that either network refuses, or two networks of different in_channels.

    Example:
        >>> from med3d_components.networks.med3d import Med3DNet
        >>> network = CascadeNet(lambda: Med3DNet({"liver": 2}, depth=10), depth=10, roi_size=(64, 64, 64))
        >>> network.locate(torch.zeros(1, 1, 32, 40, 48)).shape
        torch.Size([1, 2, 32, 40, 48])
    """

    def __init__(
        self,
        make_coarse: Callable[[], nn.Module],
        coarse_checkpoint: str | os.PathLike[str] | None = None,
        **fine: Any,
    ) -> None:
        super().__init__(**fine)
        self.add_coarse(make_coarse, coarse_checkpoint)
