"""A training step as the bundles take it, against the same network in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.utils import ensure_tuple, set_determinism

from med3d_components.inferers import FastInferer
from med3d_components.networks import Med3DNet
from scripts.benchmarks.cases import with_stock_layers
from scripts.benchmarks.stopwatch import compare, report

__all__ = ["training"]


def training(
    depths: Sequence[int] | int = (10, 50),
    sizes: Sequence[int] | int = (64, 96),
    batch_size: int = 1,
    repeats: int = 5,
    out: str | None = None,
) -> None:
    """Compare a step (forward, loss, backward, optimiser) of the pre-training with one of MONAI's trainer as it is.

    Both have the network and the loss of bundles/med3d_pretraining; the input is noise. MONAI's trainer computes in
    float32 and keeps the gradients' memory from step to step; the optimiser is torch's default Adam there, and all
    layers are torch's own.

    Args:
        depths: of the ResNet.
        sizes: edges of the cubes, in voxels.
        batch_size: cubes per step.
        repeats: timed steps of each; the median is reported.
        out: folder for training.csv and training.json; nothing is written without it.
    """
    rows = []
    for depth in ensure_tuple(depths):
        for size in ensure_tuple(sizes):
            image = torch.randn(batch_size, 1, size, size, size)
            ours, baseline = (_Step(depth, image, fast) for fast in (True, False))
            row = compare(f"depth {depth}, {size} cubed", ours, baseline, repeats)
            rows.append({**row, "first loss ours": ours.losses[0], "first loss baseline": baseline.losses[0]})
    report("training", rows, {"batch_size": batch_size, "repeats": repeats}, out)


class _Step:
    """One step after the other, on one batch.

    Args:
        depth: of the ResNet.
        image: (B, 1, H, W, D); what is above 0 is the foreground.
        fast: as the bundle trains: in the precision of this machine, with the fused optimiser, this package's layers,
            and gradients dropped after a step.
    """

    def __init__(self, depth: int, image: torch.Tensor, fast: bool) -> None:
        set_determinism(0)
        self.image, self.label = image, (image > 0).float()
        self.fast = fast
        network = Med3DNet({"target": 2}, depth)
        self.network = network if fast else with_stock_layers(network)
        self.inferer = FastInferer(SimpleInferer(), "auto" if fast else "float32")
        self.criterion = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3, fused=fast)
        self.losses: list[float] = []

    def __call__(self) -> None:
        """Take a step."""
        self.optimizer.zero_grad(set_to_none=self.fast)
        loss = self.criterion(self.inferer(self.image, self.network), self.label)
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
