"""infra.reference.errors: the page of errors."""

from __future__ import annotations

from infra.reference.errors import draw_errors, error_classes
from wire.errors import ConflictError, HeadwaterError, TrustExpiredError


def test_every_error_of_the_wire_is_there_with_its_status_and_code() -> None:
    page, found = draw_errors(), error_classes()
    assert {ConflictError, TrustExpiredError} <= set(found)
    conflicts = page.partition("## 409")[2].partition("## ")[0]
    assert "`conflict` | Somebody else changed the thing first" in conflicts
    assert "Read the state again" in conflicts
    assert all(error is HeadwaterError or f"`{error.code}`" in page for error in found)


def test_errors_that_are_somebodys_own_are_left_out() -> None:
    assert not [error for error in error_classes() if error.__name__.startswith("_")]


def test_an_error_names_the_tiers_that_speak_of_it() -> None:
    line = next(row for row in draw_errors().splitlines() if "`wire.errors.ConflictError`" in row)
    assert "origin" in line.split("|")[3]
