"""Write CT series' XML files as LIDC-IDRI has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from tests.data.dicom_files import WrittenSeries

SHAPE = (60, 50, 24)
AFFINE = np.array([[-0.7, 0, 0, 20], [0, -0.7, 0, 15], [0, 0, 1.25, -50], [0, 0, 0, 1]])
CENTRE = (30, 26, 12)
NIH = ' xmlns="http://www.nih.gov"'


def sphere(centre: Sequence[float] = CENTRE, radius: float = 6.0) -> NDArray[np.bool_]:
    """Return the voxels within ``radius`` mm of a voxel of the series."""
    steps = np.moveaxis(np.indices(SHAPE), 0, -1) - np.asarray(centre)
    return np.linalg.norm(steps * np.abs(np.diag(AFFINE))[:3], axis=-1) <= radius


def roi(
    instance_uid: str, points: Sequence[Sequence[float]], inclusion: str = "TRUE", height: float | None = None
) -> str:
    """Return an outline, at the height that the slice of ``write_series`` has unless told otherwise."""
    if height is None:
        height = AFFINE[2, 3] + AFFINE[2, 2] * (int(instance_uid.rpartition(".")[2]) - 1)
    edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>\n" for x, y in points)
    return (
        f"<roi><imageZposition>{height}</imageZposition><imageSOP_UID>{instance_uid}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>\n{edge}</roi>\n"
    )


def walk_around(region: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the pixels just outside a star-shaped region, by their angle as seen from its middle."""
    outside = np.argwhere(find_boundaries(region, mode="outer", connectivity=1))
    x, y = (outside - np.argwhere(region).mean(axis=0)).T
    return outside[np.argsort(np.arctan2(y, x))].tolist()


def rois(nodule: NDArray[np.bool_], series: WrittenSeries) -> str:
    slices = np.flatnonzero(nodule.any(axis=(0, 1)))
    return "".join(roi(series.instance_uids[k], walk_around(nodule[:, :, k])) for k in slices)


def nodule(content: str, malignancy: object = 3, name: str = "Nodule 001") -> str:
    scores = {"subtlety": 4, "calcification": 6, "texture": 5, "malignancy": malignancy}
    characteristics = "".join(f"<{key}>{value}</{key}>" for key, value in scores.items())
    return (
        f"<unblindedReadNodule><noduleID>{name}</noduleID><characteristics>{characteristics}</characteristics>\n"
        f"{content}</unblindedReadNodule>\n"
    )


def small(series: WrittenSeries) -> str:
    """Return a nodule below 3 mm: a point and no characteristics."""
    return f"<unblindedReadNodule><noduleID>7</noduleID>{roi(series.instance_uids[5], [(9, 9)])}</unblindedReadNodule>"


def report(uid: str, sessions: Sequence[str], namespace: str = NIH, root: str = "LidcReadMessage") -> str:
    readings = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion><servicingRadiologistID>anon{number}"
        f"</servicingRadiologistID>\n{session}<nonNodule><nonNoduleID>{number}</nonNoduleID><imageZposition>-42.5"
        "</imageZposition><imageSOP_UID>1.9.9</imageSOP_UID><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus>"
        "</nonNodule></readingSession>\n"
        for number, session in enumerate(sessions)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} uid="1.3.6"{namespace}>\n<ResponseHeader><Version>1.8.1'
        f"</Version><SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>\n{readings}</{root}>\n"
    )
