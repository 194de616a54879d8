from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.hints import NAMES, NONE, PREFIX, Hints, parse_hints
from wire.errors import RequestInvalidError


def hinted(**hints: str) -> Hints:
    return parse_hints({f"{PREFIX}{name}": value for name, value in hints.items()})


def test_without_hints_it_is_always_the_same_value() -> None:
    assert parse_hints({"host": "edge", "authorization": "Bearer x"}) is NONE


def test_all_hints_are_read() -> None:
    found = hinted(
        privacy="local",
        prefer="cloud",
        latency="batch",
        quality="high",
        cost="low",
        residency="eu-west",
    )
    assert found == Hints(
        privacy="local",
        prefer="cloud",
        latency="batch",
        quality="high",
        cost="low",
        residency="eu-west",
    )


def test_case_and_white_space_do_not_matter() -> None:
    assert hinted(latency=" Batch ", residency=" EU ") == Hints(latency="batch", residency="eu")


@pytest.mark.parametrize("value", ["worker", "local"])
def test_a_worker_has_two_names(value: str) -> None:
    assert hinted(prefer=value).prefer == "worker"


def test_other_headers_of_ours_are_no_hints() -> None:
    assert hinted(explain="1") == NONE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", "any, local", "nonsense!", "x" * 33, "é"])
def test_a_hint_that_cannot_be_followed_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(RequestInvalidError, match=f"{PREFIX}{name}"):
        hinted(**{name: value})


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_any_text_is_a_hint_or_refused(values: dict[str, str]) -> None:
    try:
        found = hinted(**values)
    except RequestInvalidError:
        return
    assert (found.privacy is None) == ("privacy" not in values)
    assert bool(found.residency) == ("residency" in values)
