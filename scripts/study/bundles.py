"""What a study must know of a bundle and its data before anything is trained, read from the bundle's own config."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.utils.causes import root_cause
from med3d_components.utils.command_line import check_known
from med3d_components.utils.preflight import check_options

__all__ = ["BundleFacts", "equal_budget", "is_synthetic", "open_bundle", "read_bundle", "sha256"]


@dataclass(frozen=True)
class BundleFacts:
    """A bundle on its data.

    Attributes:
        metric: name of the score that chooses the best network.
        classes: names.
        training: number of training cases by domain; by "" where there are no domains.
        validation: number of validation cases.
        batch_size: of the training.
    """

    metric: str
    classes: Any
    training: Mapping[str, int]
    validation: int
    batch_size: int

    def steps(self, *domains: str) -> int:
        """Return the iterations of an epoch on some domains; a batch holds cases of one domain."""
        return sum(math.ceil(self.training[domain] / self.batch_size) for domain in domains or self.training)


def read_bundle(bundle: Path, options: Mapping[str, Any]) -> BundleFacts:
    """Read the facts of a bundle with options of its command line; only headers of images are opened.

    Raises:
        ValueError: for an option that the bundle does not have, and whatever the bundle's datalist refuses.
    """
    parser = open_bundle(bundle, options)
    try:
        datalist = parser.get_parsed_content("datalist")
    except RuntimeError as error:
        raise root_cause(error) from None
    return BundleFacts(
        metric=next(iter(parser["key_metric"])),
        classes=datalist.classes,
        training=Counter(item.get("domain", "") for item in datalist.training),
        validation=len(datalist.validation),
        batch_size=parser.get_parsed_content("batch_size"),
    )


def open_bundle(bundle: Path, options: Mapping[str, Any]) -> ConfigParser:
    """Return the config of a bundle's training with options of its command line; nothing is resolved yet.

    Raises:
        ValueError: for an option that the bundle does not have, or a value that is not allowed.
    """
    content = dict(ConfigParser.load_config_files(str(bundle / "configs" / "train.json")))
    for name in options:
        check_known(name, content, f"the bundle {bundle.name}")
    content |= {"bundle_root": str(bundle), **options}
    return ConfigParser({**content, **check_options(content)})


def equal_budget(epochs: int, val_interval: int, full_steps: int, steps: int) -> tuple[int, int]:
    """Return epochs and validation interval of a training with fewer cases, so that its iterations are as many.

    Validations are as many, too, and the last epoch is validated; for that the iterations may differ by up to half of
    those between two validations.

    Args:
        epochs: with all cases, a multiple of ``val_interval``.
        val_interval: with all cases, in epochs.
        full_steps: iterations per epoch with all cases.
        steps: iterations per epoch with fewer cases.

    Example:
        >>> equal_budget(epochs=20, val_interval=2, full_steps=10, steps=3)
        (70, 7)
    """
    wanted = epochs * full_steps / steps
    interval = max(1, round(wanted * val_interval / epochs))
    return max(1, round(wanted / interval)) * interval, interval


def is_synthetic(dataset_dir: Path) -> bool:
    """Tell whether a data set, or one of the domains in a folder, says that it is synthetic."""
    files = [dataset_dir / "dataset.json", *dataset_dir.glob("*/dataset.json")]
    return any("synthetic" in read_dataset_json(file) for file in files if file.is_file())


def sha256(path: Path) -> str | None:
    """Return the sha256 of a file, None if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
