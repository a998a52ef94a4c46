"""Synthetic scans in the layout of real ones, to try and test with. They say nothing about medicine."""

from scripts.samples.nodules import write_nodules
from scripts.samples.scans import make_scan, write_sample

__all__ = ["make_scan", "write_nodules", "write_sample"]
