"""How a batch is handed to the network, and a trainer for every precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer, Workflow
from monai.engines.utils import IterationEvents, PrepareBatch, default_prepare_batch

from med3d_components.utils.precision import choose_precision

__all__ = ["MOST_SKIPPED", "PrecisionTrainer", "PrepareBatchDomain"]

MOST_SKIPPED = 20
"""Steps in a row that the scaler of fp16 may leave out: it finds its scale within them, or there is none."""


class PrepareBatchDomain(PrepareBatch):
    """Take image and label out of a batch and tell the network which domain they are of.

    Raises:
        ValueError: if the batch mixes domains, each of which has its own branch.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, str]]:
        """Return image, label, no positional arguments and the keyword argument ``domain``."""
        domains = set(batchdata["domain"])
        if len(domains) != 1:
            raise ValueError(f"A batch must hold one domain, but holds {', '.join(sorted(domains))}.")
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return image, label, (), {"domain": domains.pop()}


class PrecisionTrainer(SupervisedTrainer):
    """MONAI's trainer, which scales the loss where it trains in fp16, on any device.

    MONAI's own scaler is for CUDA only, and for its own autocast; here :class:`FastInferer` casts. Gradients of
    ``accumulation_steps`` batches are added up scaled, and a step that overflowed is left out.

    A loss or gradients that are not finite end the training before they reach the weights.

    Attributes:
        at_end: what is to happen when :meth:`run` ends, however it ends.
        moves: whether the optimizer moves in the step at hand, since all batches of its group are added up.
        state.losses: the loss of each step of the epoch, the mean over all processes, so that all of them end together.
        state.signal: number of the signal that asked this process to stop, else 0.
        state.stop: whether any process was asked to; all know it after the same step.
        state.saved: the last checkpoint and where it stands, as text.
        state.first_step: steps of the epoch that were made before, in a run that goes on in its middle.
        state.steps_beyond: steps of the training so far beyond ``state.iteration``, which counts as if all epochs had
            had as many steps as they have now.

    Args:
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`.
        clip_norm: most that the norm of all gradients of a step may be, above which they are scaled down; 0 for no
            limit.
        **options: all of ``SupervisedTrainer``'s arguments but ``amp``.

    Raises:
        ValueError: for any other precision; in training, for a loss or gradients that are NaN or infinite. In fp16,
            whose scaler leaves such a step out, for :data:`MOST_SKIPPED` of them in a row.
    """

    def __init__(self, precision: str = "auto", clip_norm: float = 0, **options: Any) -> None:
        chosen = choose_precision(precision, options["device"])
        scaled = chosen.name == "fp16"
        self.at_end = ExitStack()
        # What handlers add to the start of an epoch comes after this.
        self._earlier_losses: list[float] = []
        self._skipped = 0
        super().__init__(amp=scaled, amp_kwargs={"enabled": False}, **options)
        self.precision, self.clip_norm = chosen, clip_norm
        self.scaler = torch.amp.GradScaler(torch.device(options["device"]).type) if scaled else None
        self.state.losses, self.state.first_step, self.state.steps_beyond = [], 0, 0
        self.state.signal, self.state.stop, self.state.saved = 0, False, ""
        self.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, self.note_loss)
        if self.scaler is None:
            self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.check_gradients)
        else:
            self.add_event_handler(Events.ITERATION_STARTED, self._note_scale)
            self.add_event_handler(IterationEvents.MODEL_COMPLETED, self.count_skipped)
        if clip_norm:
            self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.clip_gradients)

    @property
    def moves(self) -> bool:
        """Tell whether the optimizer moves in this step."""
        step = (self.state.iteration - 1) % self.state.epoch_length + 1
        return step % self.accumulation_steps == 0 or step == self.state.epoch_length

    def go_on(self, epoch: int, step: int, losses: Sequence[float], made: int) -> None:
        """Go on where an earlier run stood, when :meth:`run` has started.

        Args:
            epoch: how many were completed, with their validations.
            step: how many steps of the next one were made; with all of them, it is completed without another.
            losses: of these steps.
            made: steps since the training began.
        """
        length = self.state.epoch_length
        self.state.steps_beyond = made - (epoch * length + step)
        all_made = step == length
        # Not all steps of the last epoch: ignite would take the training for done, and complete no epoch.
        self.state.iteration = epoch * length + step - all_made
        self.state.epoch, self.state.first_step, self._earlier_losses = epoch, step, list(losses)
        if all_made:
            self.add_event_handler(Events.GET_BATCH_STARTED, self._complete_epoch)

    def note_loss(self) -> None:
        """Keep the loss of a step, and learn whether a process was asked to stop.

        Raises:
            ValueError: if it is not finite; but not in fp16.
        """
        loss, asked = self.state.output["loss"].item(), self.state.signal
        if idist.get_world_size() > 1:
            both = torch.tensor([loss, asked], dtype=torch.float64, device=self.state.device)
            loss, asked = idist.all_reduce(both).tolist()
            loss /= idist.get_world_size()
        self.state.stop = self.state.stop or asked > 0
        if math.isfinite(loss):
            self.state.losses.append(loss)
        elif self.scaler is None:
            cases = ", ".join(map(str, self.state.batch.get("case", ())))
            raise ValueError(
                f"The loss of step {self.state.iteration}, epoch {self.state.epoch}, is {loss} (cases: {cases}); "
                f"{self.advice}, or look at these cases.{self.last_good}"
            )

    def check_gradients(self) -> None:
        """Look at the gradients before the optimizer moves.

        Raises:
            ValueError: if one is not finite.
        """
        if not self.moves:
            return
        gradients = [x.grad for group in self.optimizer.param_groups for x in group["params"] if x.grad is not None]
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=math.inf).item()
        if not math.isfinite(largest):
            raise ValueError(
                f"The gradients of step {self.state.iteration}, epoch {self.state.epoch}, are not finite, though the "
                f"loss is {self.state.losses[-1]:.4g}; {self.advice}.{self.last_good}"
            )

    def clip_gradients(self) -> None:
        """Scale gradients down whose norm is too large, before the optimizer moves."""
        if not self.moves:
            return
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        parameters = [x for group in self.optimizer.param_groups for x in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def count_skipped(self) -> None:
        """Count the steps in a row that the scaler left out; it lowers its scale at each.

        Raises:
            ValueError: for :data:`MOST_SKIPPED` of them.
        """
        if self.scaler is None or not self.moves:
            return
        self._skipped = self._skipped + 1 if self.scaler.get_scale() < self._scale else 0
        if self._skipped >= MOST_SKIPPED:
            raise ValueError(
                f"{self._skipped} steps in a row, up to step {self.state.iteration} of epoch {self.state.epoch}, had a "
                "loss or gradients that are not finite, at any scale of fp16; try --precision bf16 or float32, or a "
                f"smaller --learning_rate.{self.last_good}"
            )

    @property
    def advice(self) -> str:
        """Return what may help where something is not finite, for errors."""
        return "try a smaller --learning_rate" + " or --precision float32" * (self.precision.name != "float32")

    @property
    def last_good(self) -> str:
        """Return a sentence about the last checkpoint, for errors."""
        saved = self.state.saved
        return f" The last good checkpoint is {saved}; --resume true goes on from there." if saved else ""

    def run(self) -> None:
        """Train."""
        with self.at_end:
            # Not `Trainer.run`, which puts a scaler for CUDA in the place of ours.
            Workflow.run(self)

    def _start_epoch(self) -> None:
        self.state.losses, self._earlier_losses = self._earlier_losses, []

    def _note_scale(self) -> None:
        self._scale = self.scaler.get_scale() if self.scaler is not None else 1.0

    def _complete_epoch(self) -> None:
        """End an epoch all of whose steps were made before."""
        self.remove_event_handler(self._complete_epoch, Events.GET_BATCH_STARTED)
        self.state.iteration = self.state.epoch * self.state.epoch_length
        self.terminate_epoch()
