"""Synthetic scans in the layout of real ones, to try and test with. They say nothing about medicine."""

from med3d_components.data.synthetic.nodules import write_nodules
from med3d_components.data.synthetic.scans import make_scan, write_sample

__all__ = ["make_scan", "write_nodules", "write_sample"]
