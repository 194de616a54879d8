"""Templates and values: what Terraform would make of them, and what may not stand in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cloud_init.render import MAX_USER_DATA_BYTES, names, render, template
from wire.errors import ConfigError


def test_values_and_escapes_as_terraform_has_them() -> None:
    assert render("a ${one} $${two} $three ${one}", {"one": "1"}) == "a 1 ${two} $three 1"
    assert names("${one} $${two} ${three}") == {"one", "three"}


@given(st.text(alphabet="abc$ {}\n", max_size=40))
def test_text_without_values_is_kept(text: str) -> None:
    if not names(text):
        assert render(text, {}) == text.replace("$${", "${")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "missing: one"),
        ({"one": "1", "two": "2"}, "not in this template: two"),
        ({"one": "a'; rm -rf /; '"}, "one: no quotes"),
        ({"one": 'a"\nb = "c'}, "one: no quotes"),
        ({"one": "a\nb"}, "line ends"),
        ({"one": "x" * 5_000}, "at most 4096"),
    ],
)
def test_what_is_missing_unknown_or_more_than_a_value_is_refused(
    values: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        render("${one}", values)


def test_what_the_metadata_service_would_refuse_is_refused_here() -> None:
    with pytest.raises(ConfigError, match="Linode takes"):
        render("x" * (MAX_USER_DATA_BYTES + 1), {})


def test_there_are_three_tiers() -> None:
    with pytest.raises(ConfigError, match="origin, edge, worker"):
        template("cache")
