"""How much memory a training or a window needs, predicted without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from monai.engines import SupervisedTrainer
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MARGIN", "LiveMemory", "MakeTrainer", "Peak", "predict_peak"]

MARGIN = 1.25
"""A setting fits where so many times its prediction does: predictions hold within 25 %."""

MakeTrainer = Callable[[], SupervisedTrainer]
"""Makes a trainer, and first whatever it holds."""


class Peak(NamedTuple):
    """Bytes that each part has when a training holds most; activations are all that is none of the others."""

    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    workspace: int = 0

    @property
    def total(self) -> int:
        """Return their sum."""
        return sum(self)


def predict_peak(make_trainer: MakeTrainer) -> Peak:
    """Predict the peak of a training's memory, by running it on fake tensors, which have a size but no content.

    The sizes are those of the operations that really run: autocast, checkpointing, the loss and the optimizer take
    part. In addition a convolution has a workspace, see :class:`LiveMemory`. Not counted are the process itself, the
    workers of a data loader, and validation.

    Predicted, and measured as resident memory, for ``lung_segmentation`` with its default decoder, in bf16, on a CPU:

    ===== ============== ===== ========= ========
    depth patch          batch predicted measured
    ===== ============== ===== ========= ========
    10    40 x 56 x 40   2     0.36 GB   0.41 GB
    10    40 x 56 x 10   4     0.31 GB   0.37 GB
    50    40 x 56 x 40   2     0.85 GB   0.90 GB
    ===== ============== ===== ========= ========

    The second is of strides (2, 2, 1), (2, 2, 1), (2, 2, 2).

    Args:
        make_trainer: makes a trainer and all that it holds; see :func:`bundle_trainer`. Two steps are enough.

    Returns:
        The parts of the greatest sum.

    Example:
        >>> from pathlib import Path
        >>> from med3d_components.planning.rehearsal import bundle_trainer
        >>> bundle = Path(__file__).parents[2] / "bundles" / "lung_segmentation"
        >>> size = {"patch_size": (64, 64, 64), "batch_size": 1, "depth": 10, "precision": "float32"}
        >>> round(predict_peak(lambda: bundle_trainer(bundle, **size)).total / 1e6)
        561
    """
    with FakeTensorMode(allow_non_fake_inputs=True), _RealArange():
        trainer = make_trainer()
        with LiveMemory(trainer.network, trainer.optimizer) as memory:
            trainer.run()
    return memory.peak


class LiveMemory(TorchDispatchMode):
    """Follow the storages that live while operations run, and keep the parts of the greatest sum.

    ``torch.distributed._tools.mem_tracker.MemTracker`` finds the same sums, but takes several times longer, since it
    keeps a history of each module, and it knows no workspace.

    The workspace of a convolution are copies of what goes into it and comes out, which last as long as it runs: oneDNN
    computes in a layout of its own.

    Args:
        network: of the training; it counts from the start.
        optimizer: of the training, if it is one.
    """

    def __init__(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.total = self.workspace = self.gradients = 0
        self.sizes: dict[int, int] = {}
        self.live = 0
        for tensor in (*network.parameters(), *network.buffers()):
            self._follow(tensor)
        self.parameters = self.live

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and look what it leaves."""
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._follow(tensor)
        workspace = _workspace(func, args, out)
        if self.live + workspace > self.total:
            self.total, self.workspace = self.live + workspace, workspace
            self.gradients = sum(x.grad.nbytes for x in self.network.parameters() if x.grad is not None)
        return out

    @property
    def peak(self) -> Peak:
        """Return the parts of the greatest sum so far; the state of the optimizer is that of now."""
        state = sum(x.nbytes for x in _tensors(list(self.optimizer.state.values()))) if self.optimizer else 0
        others = self.total - self.parameters - self.gradients - state - self.workspace
        return Peak(self.parameters, self.gradients, state, others, self.workspace)

    def _follow(self, tensor: torch.Tensor) -> None:
        """Count a storage until nothing refers to it; views share one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += self.sizes[key]
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self.sizes.pop(key)


class _RealArange(TorchFunctionMode):
    """Let ``torch.arange`` make real tensors: MONAI's Dice loss reads the numbers of one, and fake ones have none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.arange:
            with unset_fake_temporarily():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _workspace(func: Callable[..., Any], args: Sequence[Any], out: Any) -> int:
    if func is torch.ops.aten.convolution.default:
        return sum(x.nbytes for x in (*args[:2], out))  # input, weight
    if func is torch.ops.aten.convolution_backward.default:
        return sum(x.nbytes for x in args[:3])  # gradient of the output, input, weight
    return 0


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
