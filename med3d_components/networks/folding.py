"""The same result in fewer steps: BatchNorm folded into the convolution before it."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm"]

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """Return a copy of a network in which convolutions do the work of the BatchNorms that directly follow them.

    A BatchNorm follows a convolution where it is registered directly after it in the same module, as in all networks
    of this package; one whose layers run in another order must not be folded. Other BatchNorms stay: those before
    their convolution, as in DenseASPP, and those that take the statistics of the batch at hand.

    Args:
        network: in evaluation mode; it is left alone.

    Raises:
        ValueError: if the network is in training mode, where BatchNorm is no fixed factor.

    Example:
        >>> fold_batch_norm(nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval())[1]
        Identity()
    """
    if network.training:
        raise ValueError("The network is in training mode, where BatchNorm cannot be folded; call its eval() before.")
    folded = deepcopy(network)
    for module in folded.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            # Exactly BatchNorm3d: what derives from it may not use the running statistics.
            if isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) and type(norm) is nn.BatchNorm3d:
                fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose3d))
                setattr(module, conv_name, fused)
                setattr(module, norm_name, nn.Identity())
    return folded
