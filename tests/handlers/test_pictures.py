from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from matplotlib.image import imread

from med3d_components.handlers import ClassificationPictures, OverlayPictures, RestorationPictures


def run(handler: object, items: list[dict[str, str]], output: dict[str, torch.Tensor], **state: object) -> None:
    engine = Engine(lambda engine, batch: [output] * len(items))

    def set_state(engine: Engine) -> None:
        engine.state.batch = items
        for name, value in state.items():
            setattr(engine.state, name, value)

    engine.add_event_handler(Events.ITERATION_STARTED, set_state)
    handler.attach(engine)  # type: ignore[attr-defined]
    engine.run([0, 1])


def test_overlays_show_as_many_cases_of_each_domain_as_asked(tmp_path: Path) -> None:
    label = torch.zeros(1, 8, 8, 8)
    label[:, 2:5, 2:5, 2:5] = 1
    volumes = {"image": torch.rand(1, 8, 8, 8), "label": label, "pred": label}
    heights = []
    for cases, items in (
        (1, [{"case": "1", "domain": "liver"}]),
        (1, [{"case": "1", "domain": "liver"}, {"case": "2", "domain": "lung"}]),
        (2, [{"case": "1"}]),
    ):
        run(OverlayPictures(tmp_path, cases), items, volumes)
        heights.append(imread(tmp_path / "overlays.png").shape[0])
    assert heights[1] == heights[2] == 2 * heights[0]


def test_a_classification_is_drawn_as_a_sheet_of_cubes_and_a_curve(tmp_path: Path) -> None:
    rows = [
        {"case": name, "label": label, "probability": probability}
        for name, label, probability in (("a", "benign", 0.2), ("b", "malignant", 0.4), ("elsewhere", "benign", 0.1))
    ]
    output = {"image": torch.rand(1, 8, 8, 8)}
    state = {"metrics": {"val_auc/low": 0.5, "val_auc/high": 1.0}, "metric_details": {"val_auc": rows}}
    run(ClassificationPictures(tmp_path, ["benign", "malignant"]), [{"case": "a"}, {"case": "b"}], output, **state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cubes.png", "roc.png"]


def test_restorations_show_every_case_before_a_second_cube_of_one(tmp_path: Path) -> None:
    volumes = {name: torch.rand(1, 8, 8, 4) for name in ("image", "label", "pred")}
    handler, heights = RestorationPictures(tmp_path, cubes=3), []
    for cases in (["1"], ["1", "1", "1", "2"], ["1"] * 5):
        run(handler, [{"case": case} for case in cases], volumes)
        heights.append(imread(tmp_path / "restored.png").shape[0])
        titles = [cube["title"] for cube in handler.kept]
        assert titles == (["1", "2", "1"] if "2" in cases else ["1"] * len(titles))
    assert heights[1] == heights[2] > heights[0]
