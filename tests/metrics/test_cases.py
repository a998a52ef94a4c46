from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from med3d_components.metrics import DomainDice


def test_rows_tell_the_set_of_their_case_where_items_have_one() -> None:
    label = torch.ones(1, 4, 4, 4)
    engine = Engine(lambda engine, batch: [{"pred": label, "label": label}])
    engine.state.metric_details = {}
    DomainDice({"heart": ["background", "atrium"]}).attach(engine, "dice")

    def set_batch(engine: Engine) -> None:
        case = str(engine.state.iteration)
        engine.state.batch = [{"domain": "heart", "case": case, **({"set": "new"} if case == "1" else {})}]

    engine.add_event_handler(Events.ITERATION_STARTED, set_batch)
    engine.run([0, 1])
    first, second = engine.state.metric_details["dice"]
    assert list(first)[:3] == ["domain", "case", "set"]
    assert (first["set"], "set" in second) == ("new", False)
