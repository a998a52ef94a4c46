"""A record of a training as one leaves it."""

from __future__ import annotations

from typing import Any

from med3d_components.records import FORMAT, describe_environment


def sample_record(**changes: Any) -> dict[str, Any]:
    """Return the record of a training of the lung segmentation, with entries changed."""
    part = {
        "status": "completed",
        "started": "2026-01-02T03:04:05.678+00:00",
        "ended": "2026-01-02T04:04:05.678+00:00",
        "first_epoch": 1,
        "last_epoch": 2,
        "steps": 4,
        "host": "workstation7",
        "precision": {"name": "float32", "reason": "as asked for"},
        "environment": describe_environment(),
    }
    record = {
        "format": FORMAT,
        "status": "completed",
        "bundle": {"name": "lung_segmentation", "version": "0.2.0"},
        "run_id": "training",
        "configs": {"train.json": "0" * 64},
        "changed": [],
        "command": ["/home/alice/python", "-m", "monai.bundle", "--dataset_dir", "/home/alice/Kidneys"],
        "options": {
            "dataset_dir": "/home/alice/Kidneys",
            "run_dir": "/home/alice/run",
            "ckpt_dir": "/home/alice/run/models",
            "pretrained_weights": "none",
            "depth": 10,
            "seed": 0,
            "patch_size": [32, 32, 32],
        },
        "given": ["dataset_dir", "depth", "patch_size"],
        "data": {
            "sets": [{"name": "Kidneys", "licence": "CC0 1.0", "dataset_json": "1" * 64}],
            "training": 4,
            "validation": 1,
            "listing": "2" * 64,
        },
        "weights": [],
        "parts": [part],
        "best": {"metric": "val_mean_dice", "score": 0.75, "epoch": 2},
        "scores": [
            {"epoch": 1, "val_mean_dice": 0.5, "kidney": 0.5},
            {"epoch": 2, "val_mean_dice": 0.75, "kidney": 0.75},
        ],
        "files": {},
    }
    return {**record, **changes}
