"""Texts below fields are read from the source."""

import dataclasses

from infra.reference.docstrings import field_texts, joined, summary
from origin.rollout_config import RolloutConfig
from wire.errors import HeadwaterError


def test_the_text_below_a_field_is_its_own() -> None:
    texts = field_texts(RolloutConfig)
    assert texts["max_p50_ratio"] == "Median time to the first token, over the stable revision's."
    assert texts["max_p95_ratio"] == "The same for the 95th percentile."


def test_a_field_without_a_text_has_none() -> None:
    assert field_texts(HeadwaterError) == {}


def test_a_class_of_others_has_no_texts() -> None:
    assert field_texts(dataclasses.Field) == {}


def test_a_summary_is_one_line() -> None:
    assert summary(RolloutConfig) == "When a rollout goes on, and when it goes back."
    assert joined("one\n   two") == "one two"
