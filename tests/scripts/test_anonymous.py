from __future__ import annotations

import json

from scripts.commands.anonymous import anonymous_record
from tests.records.samples import sample_record


def weights(source: str, record: object = None) -> dict[str, object]:
    return {
        "option": "pretrained_weights",
        "source": source,
        "sha256": "3" * 64,
        "licence": None,
        "training_sets": None,
        "record": record,
    }


def test_nothing_tells_of_the_machine_or_its_user_along_the_whole_chain() -> None:
    first = sample_record(weights=[weights("genesis:/home/alice/Genesis_Chest_CT.pt")])
    record = sample_record(weights=[weights("/home/alice/encoder.pt", first)])
    text = json.dumps(anonymous_record(record))
    assert "alice" in json.dumps(record)
    for word in ("alice", "workstation7", "/home", "encoder.pt"):
        assert word not in text
    assert "genesis:<pretrained_weights>" in text


def test_what_a_replay_needs_is_kept() -> None:
    record = sample_record()
    found = anonymous_record(record)
    for name in ("scores", "data", "configs", "best"):
        assert found[name] == record[name]
    assert found["parts"][0]["environment"] == record["parts"][0]["environment"]
    assert found["options"] == {
        **record["options"],
        **{name: f"<{name}>" for name in ("dataset_dir", "run_dir", "ckpt_dir")},
    }


def test_what_is_added_to_a_record_stays_at_home_until_it_is_named() -> None:
    assert "user" not in anonymous_record(sample_record(user="alice"))
