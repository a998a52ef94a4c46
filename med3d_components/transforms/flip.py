"""Random exchange of left and right, where no class tells them apart."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
from monai.config import KeysCollection
from monai.transforms import RandFlipd

from med3d_components.data.sides import has_sides
from med3d_components.transforms.per_domain import each_domain, of_domain
from med3d_components.utils import as_flag

__all__ = ["RandFlipLeftRightd"]

logger = logging.getLogger(__name__)


class RandFlipLeftRightd(RandFlipd):
    """Mirror half of the samples, so that left and right change places; by default no sample whose classes tell sides.

    A mirrored "left kidney" lies where right ones do. So a domain is left as it is if any of its classes names one
    side, see :func:`~med3d_components.data.sides.has_sides`.

    Args:
        keys: volumes (C, H, W, D) whose first spatial axis is left to right, as in RAS; name image and label, which are
            mirrored together.
        classes: class names, or domain name to class names.
        flip: true to mirror samples of all domains, false for none; None to go by the names of the classes.

    Raises:
        ValueError: for any other flag; when it is called, for an unknown domain.

    Example:
        >>> classes = {"kidneys": ["background", "kidney_left", "kidney_right"], "liver": ["background", "liver"]}
        >>> flip = RandFlipLeftRightd(["image", "label"], classes)
        >>> flip.flips
        {'kidneys': False, 'liver': True}
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: Mapping[str, Sequence[str]] | Sequence[str],
        flip: bool | str | None = None,
    ) -> None:
        super().__init__(keys, prob=0.5, spatial_axis=0)
        self.flips: Mapping[str, bool] | bool
        if flip is None:
            self.flips = each_domain(classes, lambda names: not has_sides(names))
            self._tell()
        else:
            self.flips = as_flag("flip_left_right", flip)

    def _tell(self) -> None:
        """Say what is not mirrored, since a name may tell a side to the rule alone, or to a reader alone."""
        if idist.get_rank() > 0:
            return
        if not isinstance(self.flips, Mapping):
            if not self.flips:
                logger.info("No volume is mirrored, since a class tells a side.")
        elif names := [name for name, flips in self.flips.items() if not flips]:
            logger.info("Not mirrored, since a class tells a side: %s.", ", ".join(names))

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the sample, mirrored or not."""
        result: dict[Hashable, Any] = super().__call__(data, lazy) if of_domain(self.flips, data) else dict(data)
        return result
