from __future__ import annotations

import pytest

from med3d_components.data.domains import DOMAINS_3DSEG8, DomainFacts


def test_the_table_counts_1638_cases_as_the_paper_and_1632_as_released() -> None:
    assert len(DOMAINS_3DSEG8) == 8
    assert sum(facts.cases_in_paper or 0 for facts in DOMAINS_3DSEG8.values()) == 1638
    assert sum(facts.cases_released or 0 for facts in DOMAINS_3DSEG8.values()) == 1632


def test_the_paper_counts_one_case_more_or_none() -> None:
    assert {facts.cases_in_paper - facts.cases_released for facts in DOMAINS_3DSEG8.values()} == {0, 1}


@pytest.mark.parametrize(("name", "facts"), DOMAINS_3DSEG8.items())
def test_the_facts_of_a_domain_fit_together(name: str, facts: DomainFacts) -> None:
    assert "." not in name
    assert facts.modality in ("CT", "MRI")
    assert facts.classes[0] == "background"
    assert len(set(facts.classes)) == len(facts.classes) > 1
    assert 0 <= facts.channel < len(facts.channels)
    assert facts.target
    assert facts.source
    assert facts.licence


def test_brain_and_prostate_are_read_from_flair_and_t2() -> None:
    brain, prostate = DOMAINS_3DSEG8["Task01_BrainTumour"], DOMAINS_3DSEG8["Task05_Prostate"]
    assert brain.channels[brain.channel] == "FLAIR"
    assert prostate.channels[prostate.channel] == "T2"
