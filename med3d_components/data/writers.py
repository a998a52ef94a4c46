"""Write NIfTI files so that a reader sees the old file or the new one, never half of it."""

from __future__ import annotations

import logging
import os
from typing import Any

from monai.data import NibabelWriter

from med3d_components.utils import atomic_path

__all__ = ["AtomicNibabelWriter"]

logger = logging.getLogger(__name__)


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's writer of NIfTI files, for ``SaveImaged(writer=...)``, whose files appear when they are complete."""

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the volume to ``filename``."""
        with atomic_path(filename) as temporary:
            super().write(temporary, verbose=False, **kwargs)
        if verbose:
            logger.info("%s is written.", filename)
