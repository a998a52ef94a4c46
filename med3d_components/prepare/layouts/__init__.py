"""Layouts of scans and labels that people have, and the cases that each one holds."""

from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout
from med3d_components.prepare.layouts.detect import find_layout, layout_of
from med3d_components.prepare.layouts.patterns import read_table

__all__ = ["CaseSource", "LabelSource", "Layout", "find_layout", "layout_of", "read_table"]
