"""The eight domains of 3DSeg-8 (Chen, Ma, Zheng 2019, table 1)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOMAINS_3DSEG8", "DomainFacts"]

_MSD = "Medical Segmentation Decathlon, http://medicaldecathlon.com"
_SHARE_ALIKE = "CC-BY-SA 4.0"


@dataclass(frozen=True)
class DomainFacts:
    """What is known of a domain.

    Attributes:
        modality: "CT" or "MRI".
        target: what the labels outline.
        classes: names in the order of the label values, background first, as in the public ``dataset.json``.
        source: who publishes the scans.
        licence: of the scans.
        cases_in_paper: number in table 1 of the paper; None for a domain that is not in it.
        cases_released: number of labelled scans that the source releases; where the two differ, the paper counts one
            more.
        channels: names of the channels of a scan; more than one means that the files are 4-D.
        channel: index of the channel to read. The paper does not say which one of a 4-D file it read, so this is our
            choice.
    """

    modality: str
    target: str
    classes: tuple[str, ...]
    source: str
    licence: str
    cases_in_paper: int | None = None
    cases_released: int | None = None
    channels: tuple[str, ...] = ("image",)
    channel: int = 0


DOMAINS_3DSEG8: dict[str, DomainFacts] = {
    "Task01_BrainTumour": DomainFacts(
        modality="MRI",
        target="brain tumour",
        classes=("background", "edema", "non-enhancing tumor", "enhancing tumour"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=485,
        cases_released=484,
        channels=("FLAIR", "T1w", "t1gd", "T2w"),
        channel=0,  # FLAIR shows the whole tumour
    ),
    "Task04_Hippocampus": DomainFacts(
        modality="MRI",
        target="hippocampus",
        classes=("background", "Anterior", "Posterior"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=261,
        cases_released=260,
        channels=("MRI",),
    ),
    "Task05_Prostate": DomainFacts(
        modality="MRI",
        target="prostate zones",
        classes=("background", "PZ", "TZ"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=33,
        cases_released=32,
        channels=("T2", "ADC"),
        channel=0,  # T2 shows the border between the zones
    ),
    "Task03_Liver": DomainFacts(
        modality="CT",
        target="liver",
        classes=("background", "liver", "cancer"),
        source="LiTS 2017, https://competitions.codalab.org/competitions/17094; the same scans are MSD Task03_Liver",
        licence="CC-BY-NC-ND 4.0 as LiTS, CC-BY-SA 4.0 as MSD Task03_Liver",
        cases_in_paper=131,
        cases_released=131,
        channels=("CT",),
    ),
    "LASC2018_LeftAtrium": DomainFacts(
        modality="MRI",
        target="left atrium",
        classes=("background", "left atrium"),
        source="Left Atrium Segmentation Challenge 2018, http://atriaseg2018.cardiacatlas.org",
        licence="on registration, under the terms of the challenge's host",
        cases_in_paper=100,
        cases_released=100,
        channels=("LGE-MRI",),
    ),
    "Task07_Pancreas": DomainFacts(
        modality="CT",
        target="pancreas and its tumour",
        classes=("background", "pancreas", "cancer"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=282,
        cases_released=281,
        channels=("CT",),
    ),
    "Task08_HepaticVessel": DomainFacts(
        modality="CT",
        target="hepatic vessels and tumour",
        classes=("background", "Vessel", "Tumour"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=304,
        cases_released=303,
        channels=("CT",),
    ),
    "Task09_Spleen": DomainFacts(
        modality="CT",
        target="spleen",
        classes=("background", "spleen"),
        source=_MSD,
        licence=_SHARE_ALIKE,
        cases_in_paper=42,
        cases_released=41,
        channels=("CT",),
    ),
}
