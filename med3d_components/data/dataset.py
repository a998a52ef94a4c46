"""The dataset of all bundles: MONAI's, with seeds per draw, a cache on disk, and errors that name the file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Randomizable
from monai.utils import ensure_tuple

from med3d_components.data.cache import CachedTransform
from med3d_components.utils.causes import root_cause, root_line

__all__ = ["DataError", "ScanDataset"]


class DataError(ValueError):
    """A volume cannot be used; the message is one line that names its file."""


class ScanDataset(Dataset):
    """MONAI's Dataset that also takes ``(index, seed)`` and then draws its random transforms from that seed.

    Args:
        data: items, dictionaries with an entry "image" (a path, or a list of one per channel) and more.
        transform: what is applied to an item.
        seed: with it, a plain index draws the same each time: what a validation needs whose transforms are random.
        cache_dir: folder that keeps what comes before the first random transform, see :class:`CachedTransform`; None
            to prepare each item each time. The numbers are the same.
        cache_gb: most that the folder holds, in GB.

    Raises:
        ValueError: see :class:`CachedTransform`.
        DataError: when an item cannot be read or prepared; one line with its file and the cause.

    Example:
        >>> ScanDataset([{"image": 1}], transform=lambda item: item["image"] + 1)[0, 1234]
        2
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[[Any], Any] | None = None,
        seed: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_gb: float = 50,
    ) -> None:
        super().__init__(data, transform)
        self.seed = seed
        self.cached = None if cache_dir is None else CachedTransform(self.transform, cache_dir, cache_gb)

    def __getitem__(self, index: Any) -> Any:
        """Return the prepared item of an index, or of an index and the seed of its random transforms."""
        if isinstance(index, int) and self.seed is not None:
            index = index, self.seed + index
        if not isinstance(index, tuple):
            return super().__getitem__(index)
        index, seed = index
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed)
        return super().__getitem__(index)

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index) if self.cached is None else self.cached(self.data[index])
        except Exception as error:
            cause, message = root_cause(error), root_line(error)
            paths = [str(path) for path in ensure_tuple(self.data[index].get("image"))]
            if isinstance(cause, EOFError | zlib.error):
                message = f"{paths[0]} is cut off or damaged ({message.rstrip('.')}); copy it anew."
            # `from None`: MONAI's chain repeats the cause once per nested transform.
            named = any(path in message for path in paths)
            raise DataError(message if named else f"{', '.join(paths)}: {message}") from None
