"""Datalists, samplers, the cache, and reading of volumes."""

from med3d_components.data.cache import CachedTransform
from med3d_components.data.datalists import ImageDatalist, MultiDomainDatalist, SegmentationDatalist
from med3d_components.data.dataset import DataError, ScanDataset
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.folders import list_images
from med3d_components.data.model_split import ModelSplit
from med3d_components.data.nodules import NoduleDatalist, list_nodules
from med3d_components.data.sampler import DomainBatchSampler, ShardSampler

__all__ = [
    "DOMAINS_3DSEG8",
    "CachedTransform",
    "DataError",
    "DomainBatchSampler",
    "ImageDatalist",
    "ModelSplit",
    "MultiDomainDatalist",
    "NoduleDatalist",
    "ScanDataset",
    "SegmentationDatalist",
    "ShardSampler",
    "list_images",
    "list_nodules",
]
