"""Inference and training with what the device computes fast: precision, fused BatchNorm, channels last."""

from __future__ import annotations

import logging
from copy import deepcopy
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from med3d_components.inferers.windows import volume_name
from med3d_components.utils import as_flag, check_finite
from med3d_components.utils.precision import choose_precision

__all__ = ["FastInferer", "fuse_batch_norm"]

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


class FastInferer(Inferer):
    """Run another inferer under autocast where the precision asks for it, and return float32.

    MONAI's ``amp`` argument affects CUDA only. Results are float32, so that a loss is computed in full precision.

    On a CPU, training on inputs of 16 voxels or fewer along the first axis stays in float32: there the maps get two
    voxels thin, and oneDNN (torch 2.13) then makes bfloat16 weight gradients of 3x3x3 convolutions from memory that
    was never written, different ones each time.

    With ``fuse``, a network in evaluation mode runs as a copy with BatchNorm fused into the convolutions, see
    :func:`fuse_batch_norm`. The copy is made anew at each call, so that it has the weights of the moment; that takes
    far less time than a scan. On a CPU it also keeps channels last in memory, which its convolutions are fast with in
    bfloat16 and float32. What cannot be fused runs as it is: TorchScript, plain functions, networks in training mode.

    In fp16 a network that has learnt little may give numbers beyond 65504 for a scan; it is computed in float32 then.

    Args:
        inferer: the inferer to run.
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`; the device is that of the input.
        fuse: fuse BatchNorm or not; true or false, also as text.

    Raises:
        ValueError: for any other precision or flag; when it is called, unless the network is in training mode, if the
            result is not finite: the likeliest class of NaN is background.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval()
        >>> FastInferer(SimpleInferer(), fuse=True)(torch.ones(1, 1, 4, 4, 4), network).dtype
        torch.float32
    """

    def __init__(self, inferer: Inferer, precision: str = "auto", fuse: bool | str = False) -> None:
        super().__init__()
        choose_precision(precision)
        self.inferer = inferer
        self.precision = precision
        self.fuse = as_flag("fuse", fuse)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run ``network`` on ``inputs``; further arguments go to the inferer."""
        on_cpu = inputs.device.type == "cpu"
        plain = isinstance(network, nn.Module) and not isinstance(network, torch.jit.ScriptModule)
        if self.fuse and plain and not network.training:
            network = fuse_batch_norm(network)
            if on_cpu:
                network = network.to(memory_format=torch.channels_last_3d)
        dtype = choose_precision(self.precision, inputs.device).dtype
        thin = on_cpu and inputs.ndim == 5 and inputs.shape[2] <= 16 and torch.is_grad_enabled()
        reduced = dtype is not torch.float32 and not thin
        with torch.autocast(inputs.device.type, dtype=dtype if reduced else None, enabled=reduced):
            result = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(result, list):  # of deep supervision
            return cast("torch.Tensor", [logits.float() for logits in result])
        result = result.float()
        if getattr(network, "training", False):  # where the loss is looked at
            return result
        if reduced and dtype is torch.float16 and not torch.isfinite(result).all():
            logger.info("Numbers of %s are beyond those of fp16; it is computed in float32.", volume_name(inputs, 0))
            result = self.inferer(inputs, network, *args, **kwargs).float()
        volumes = result.as_tensor() if isinstance(result, MetaTensor) else result
        for index, volume in enumerate(volumes):
            check_finite(f"What the network gives for {volume_name(inputs, index)}", volume)
        return result


def fuse_batch_norm(network: Network) -> Network:
    """Return a copy of a network in which convolutions do the work of the BatchNorms that directly follow them.

    A BatchNorm follows a convolution where it is registered directly after it in the same module, as in all networks
    of this package; one whose layers run in another order must not be fused. Other BatchNorms stay: those before
    their convolution, as in DenseASPP, and those that take the statistics of the batch at hand.

    Args:
        network: in evaluation mode; it is not changed.

    Raises:
        ValueError: if the network is in training mode, where BatchNorm is not a fixed factor.

    Example:
        >>> fuse_batch_norm(nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).eval())[1]
        Identity()
    """
    if network.training:
        raise ValueError("The network is in training mode, where BatchNorm cannot be fused; call its eval() before.")
    fused = deepcopy(network)
    for module in fused.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            # Exactly BatchNorm3d: what derives from it may not use the running statistics.
            if isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) and type(norm) is nn.BatchNorm3d:
                both = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose3d))
                setattr(module, conv_name, both)
                setattr(module, norm_name, nn.Identity())
    return fused
