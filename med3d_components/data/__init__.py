"""Domains, datalists, samplers and synthetic volumes."""

from med3d_components.data.datalist import MultiDomainDatalist, SegmentationDatalist
from med3d_components.data.dataset import DataError, DomainDataset
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.listing import list_images
from med3d_components.data.sampler import DomainBatchSampler, ShardSampler

__all__ = [
    "DOMAINS_3DSEG8",
    "DataError",
    "DomainBatchSampler",
    "DomainDataset",
    "MultiDomainDatalist",
    "SegmentationDatalist",
    "ShardSampler",
    "list_images",
]
