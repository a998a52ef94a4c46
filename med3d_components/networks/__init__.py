"""Networks that the bundles name in ``_target_``."""

from med3d_components.networks.med3d import Med3DNet
from med3d_components.networks.resnet import DilatedResNet

__all__ = ["DilatedResNet", "Med3DNet"]
