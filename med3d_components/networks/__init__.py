"""Networks that the bundles name in ``_target_``."""

from med3d_components.networks.build import ARCHITECTURES, DECODERS, build_network, output_stride
from med3d_components.networks.cascade import CascadeNet
from med3d_components.networks.classification import Med3DClassificationNet
from med3d_components.networks.dense_aspp import DenseASPP3D, Med3DDenseASPPNet
from med3d_components.networks.ensemble import CascadeEnsembleNet, EnsembleNet
from med3d_components.networks.genesis import GenesisEncoder, GenesisEncoderDecoder, GenesisUNet
from med3d_components.networks.genesis_transfer import GenesisClassificationNet, GenesisSegmentationNet
from med3d_components.networks.med3d import Med3DNet
from med3d_components.networks.resnet import DilatedResNet
from med3d_components.networks.restoration import Med3DRestorationNet
from med3d_components.networks.segmentation import Med3DSegmentationNet
from med3d_components.networks.unet import Med3DUNet, UNetDecoder

__all__ = [
    "ARCHITECTURES",
    "DECODERS",
    "CascadeEnsembleNet",
    "CascadeNet",
    "DenseASPP3D",
    "DilatedResNet",
    "EnsembleNet",
    "GenesisClassificationNet",
    "GenesisEncoder",
    "GenesisEncoderDecoder",
    "GenesisSegmentationNet",
    "GenesisUNet",
    "Med3DClassificationNet",
    "Med3DDenseASPPNet",
    "Med3DNet",
    "Med3DRestorationNet",
    "Med3DSegmentationNet",
    "Med3DUNet",
    "UNetDecoder",
    "build_network",
    "output_stride",
]
