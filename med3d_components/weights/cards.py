"""Weight cards: where each published file comes from, what it was trained on and what it expects.

Facts that nobody published are absent (``None``) or called unknown; nothing here is estimated. The Hub revisions are
the branch ``main``: no commit hash of these repositories could be verified, so a changed file would go unnoticed
where its card has no sha256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.networks.resnet import DEPTHS

__all__ = [
    "CARDS",
    "WeightCard",
    "expected_intensity_range",
    "expected_output_range",
    "find_card",
]


@dataclass(frozen=True)
class WeightCard:
    """Provenance of one published weight file.

    Attributes:
        source: family of the file; "medicalnet" and "medicalnet_23" can be given to ``load_encoder``, "genesis" with
            the path of a file.
        filename: the publisher's name of the file.
        page: web page to download it from by hand.
        licence: the publisher's licence.
        training_data: what the weights were trained on, in words.
        training_sets: names of these data sets; None if they are not published.
        preprocessing: what the network was fed with, as far as it is known.
        depth: of the ResNet, None for another network.
        shortcut_type: of the ResNet, "A" or "B", None for another network.
        repo_id: repository on the Hugging Face Hub, empty if the file is not there.
        revision: of that repository.
        size: in bytes, None if unknown.
        sha256: of the file, None if unknown.
        note: what a user should know besides.
        non_commercial: whether the licence forbids commercial use.
    """

    source: str
    filename: str
    page: str
    licence: str
    training_data: str
    training_sets: tuple[str, ...] | None
    preprocessing: str
    depth: int | None = None
    shortcut_type: str | None = None
    repo_id: str = ""
    revision: str = "main"
    size: int | None = None
    sha256: str | None = None
    note: str = ""
    non_commercial: bool = False

    @property
    def url(self) -> str:
        """Address of the file itself if it is on the Hub, otherwise the page that links to it."""
        return f"{self.page}/resolve/{self.revision}/{self.filename}" if self.repo_id else self.page


_DATA = {
    "medicalnet": (
        "3DSeg-8: 1638 CT and MRI volumes of eight segmentation sets (brain, hippocampus, prostate, liver, heart, "
        "pancreas, vessel, spleen). Mostly Medical Segmentation Decathlon, and LiTS: results on these are not "
        "independent of the weights"
    ),
    "medicalnet_23": "23 data sets, not published: contamination of any public benchmark cannot be excluded",
}
_MEDICALNET_INPUT = (
    "one channel; the paper clips each volume to its 0.5 and 99.5 percentiles and z-scores it at the median spacing of "
    "its domain; the released demo resizes to 56x448x448 and z-scores the voxels above 0 instead"
)
_KINETICS_2018_INPUT = "RGB clips in 0 to 255, minus the mean (114.8, 107.7, 99.5), not divided by a deviation"
_KINETICS_2020_INPUT = "RGB clips in 0 to 1, minus the mean (0.43, 0.41, 0.38), divided by 0.28"
_KINETICS_NOTE = "stem stride (1, 2, 2) and strided, undilated layer3 and layer4 there: same shapes, other statistics"

# The publisher gives no checksums; these are of the file in the Google Drive archive, taken by an outside audit.
_RESNET_50 = {
    "size": 184_885_051,
    "sha256": "5b6189cafbee2f5604a7279b62bc163365aa6a86a377e1dc260a14275cacbd84",
    "note": "size and sha256 are those of pretrain/resnet_50.pth in the archive on Google Drive",
}


def _medicalnet(source: str, depth: int) -> WeightCard:
    repo_id = f"TencentMedicalNet/MedicalNet-Resnet{depth}"
    extra: dict[str, Any] = _RESNET_50 if (source, depth) == ("medicalnet", 50) else {}
    return WeightCard(
        source,
        f"resnet_{depth}_23dataset.pth" if source == "medicalnet_23" else f"resnet_{depth}.pth",
        f"https://huggingface.co/{repo_id}",
        "MIT",
        _DATA[source],
        None if source == "medicalnet_23" else tuple(DOMAINS_3DSEG8),
        _MEDICALNET_INPUT,
        depth,
        DEPTHS[depth].shortcut_type,
        repo_id,
        **extra,
    )


def _kinetics_2018(depth: int) -> WeightCard:
    return WeightCard(
        "kinetics_2018",
        f"resnet-{depth}-kinetics.pth",
        "https://drive.google.com/drive/folders/1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M",
        "MIT",
        "Kinetics-400 video clips",
        ("Kinetics-400",),
        _KINETICS_2018_INPUT,
        depth,
        DEPTHS[depth].shortcut_type,
        note=_KINETICS_NOTE,
    )


def _kinetics_2020(depth: int) -> WeightCard:
    return WeightCard(
        "kinetics_2020",
        f"r3d{depth}_K_200ep.pth",
        "https://drive.google.com/drive/folders/1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4",
        "MIT",
        "Kinetics-700 video clips",
        ("Kinetics-700",),
        _KINETICS_2020_INPUT,
        depth,
        "B",
        note=_KINETICS_NOTE,
    )


_GENESIS = WeightCard(
    "genesis",
    "Genesis_Chest_CT.pt",
    "https://huggingface.co/MrGiovanni/ModelsGenesis",
    "Arizona State University: academic and non-commercial use only",
    "LUNA16: 623 chest CT scans",
    ("LUNA16",),
    "one channel; HU clipped to [-1000, 1000] and scaled to 0 to 1; cubes of 64x64x32",
    repo_id="MrGiovanni/ModelsGenesis",
    note="a U-Net, not a ResNet: for networks of architecture 'genesis'; give it as genesis:FILE",
    non_commercial=True,
)

_VIDEO_DEPTHS = (18, 34, 50, 101, 152, 200)

CARDS = (
    *(_medicalnet("medicalnet", depth) for depth in DEPTHS),
    *(_medicalnet("medicalnet_23", depth) for depth in (10, 18, 34, 50)),
    *(_kinetics_2018(depth) for depth in _VIDEO_DEPTHS),
    *(_kinetics_2020(depth) for depth in _VIDEO_DEPTHS),
    _GENESIS,
)


def find_card(source: str, depth: int) -> WeightCard:
    """Return the card of a family at a depth.

    Args:
        source: a family, such as "medicalnet".
        depth: of the ResNet.

    Raises:
        ValueError: if nobody published that depth.

    Example:
        >>> find_card("medicalnet", 10).filename
        'resnet_10.pth'
    """
    family = {card.depth: card for card in CARDS if card.source == source}
    if depth not in family:
        raise ValueError(
            f"{source} has no weights of depth {depth}; it has the depths {', '.join(map(str, family))}: "
            "use one of these."
        )
    return family[depth]


def expected_intensity_range(architecture: str, otherwise: Sequence[float] | None) -> Sequence[float] | None:
    """Return the range of HU that the weights of an architecture were trained with: Models Genesis, -1000 to 1000.

    Args:
        architecture: "resnet" or "genesis".
        otherwise: for the ResNet, whose published weights fix none.

    Example:
        >>> expected_intensity_range("genesis", otherwise=(-200, 250))
        [-1000, 1000]
    """
    return [-1000, 1000] if architecture == "genesis" else otherwise


def expected_output_range(architecture: str, otherwise: Sequence[float]) -> Sequence[float]:
    """Return what that range is scaled to: Models Genesis, 0 to 1.

    Args:
        architecture: "resnet" or "genesis".
        otherwise: for the ResNet.

    Example:
        >>> expected_output_range("resnet", otherwise=(-1, 1))
        (-1, 1)
    """
    return [0, 1] if architecture == "genesis" else otherwise
