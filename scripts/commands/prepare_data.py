"""The command ``sample`` of ``scripts/prepare_data.py``; all others are the package's ``prepare``."""

from __future__ import annotations

from pathlib import Path

from med3d_components.data.domains import DOMAINS_3DSEG8
from scripts.samples import write_nodules, write_sample

__all__ = ["sample"]


def sample(out: str, seed: int = 0, cases: int | None = None, of: str = "domains") -> None:
    """Write small SYNTHETIC scans, to try the bundles without a download.

    The scans are shapes drawn by a program. What a network learns from them says nothing about medicine.
    The same command always writes the same files; run again, it finds its work done or continues where it stopped, but
    starts anew with nodules.

    Args:
        out: folder for the folders of the sample.
        seed: of the synthetic patients.
        cases: scans per folder; by default 6 of domains, 10 of lungs, 16 of livers and 16 of nodules.
        of: domains, all eight of 3DSeg-8; lungs or livers, to segment; or nodules, benign or malignant, to classify.
    """
    samples = {
        "domains": (tuple(DOMAINS_3DSEG8), 6),
        "lungs": (("Synthetic_Lungs",), 10),
        "livers": (("Synthetic_Livers",), 16),
        "nodules": (("Synthetic_Nodules",), 16),
    }
    if of not in samples:
        raise ValueError(f"of is {of!r}, but must be one of {', '.join(samples)}.")
    print("The sample data is synthetic: shapes drawn by a program. It says nothing about medicine.")
    names, usual = samples[of]
    for name in names:
        write = write_nodules if of == "nodules" else write_sample
        written = write(Path(str(out), name), usual if cases is None else cases, seed)
        print(f"{Path(str(out), name)} is {'written' if written else 'already there'}.")
