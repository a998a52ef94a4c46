"""Compare initialisations of a bundle's network with one another, as Table 2 of Med3D does: plan, run, report."""

from med3d_components.study.cells import Cell, run_cells
from med3d_components.study.plan import Data, plan_ablation, plan_transfer
from med3d_components.study.report import write_report

__all__ = ["Cell", "Data", "plan_ablation", "plan_transfer", "run_cells", "write_report"]
