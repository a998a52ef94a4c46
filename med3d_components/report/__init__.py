"""Reports to look at in a browser: one look for every page, and pictures small enough for a thousand cases."""

from med3d_components.report.evaluation import write_evaluation_page
from med3d_components.report.page import embed, short, write_page
from med3d_components.report.pictures import draw_planes

__all__ = ["draw_planes", "embed", "short", "write_evaluation_page", "write_page"]
