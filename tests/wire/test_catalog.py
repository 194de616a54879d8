from __future__ import annotations

import pytest

from tests.fakes.facades import make_model, publish_in
from tests.fakes.revisions import SignedSource
from wire.catalog import (
    Catalog,
    CatalogMissingError,
    CatalogSource,
    ModelUnknownError,
    RevisionUnknownError,
    catalog_of,
    commit_of,
    model_in,
)
from wire.errors import ForbiddenError, NameInvalidError, UnauthorizedError
from wire.pull_tokens import ANYBODY, REFUSED, Reader

OPEN, NEXT, SECRET, HALF = (
    make_model("chat"),
    make_model("chat", seed=1),
    make_model("secret", seed=2),
    make_model("half", seed=3),
)
HIDDEN = make_model("half", seed=4)
HOLDER = Reader("t1", ("sec*",))


@pytest.fixture(scope="module")
def source() -> SignedSource:
    source = SignedSource()
    publish_in(source, OPEN)
    publish_in(source, NEXT, channel="next")
    publish_in(source, SECRET, private=True)
    publish_in(source, HALF)
    publish_in(source, HIDDEN, private=True, channel="hidden")
    return source


@pytest.fixture(scope="module")
def catalog(source: SignedSource) -> Catalog:
    return catalog_of(source.repository.view)


@pytest.mark.parametrize("name", ["main", "latest", "stable"])
def test_default_names_mean_stable(catalog: Catalog, name: str) -> None:
    found = catalog.find("chat", name, ANYBODY)
    assert (found.revision, found.channel) == (OPEN.id, "stable")
    assert found.commit == OPEN.id[:40]


@pytest.mark.parametrize("name", [commit_of(NEXT.id), NEXT.id])
def test_a_commit_does_not_move(catalog: Catalog, name: str) -> None:
    found = catalog.find("chat", name, ANYBODY)
    assert (found.revision, found.channel) == (NEXT.id, "")


@pytest.mark.parametrize("name", ["v9", "refs/pr/1", "..", "", "f" * 40, "f" * 64, OPEN.id[:39]])
def test_what_names_no_revision_is_unknown(catalog: Catalog, name: str) -> None:
    with pytest.raises(RevisionUnknownError):
        catalog.find("chat", name, ANYBODY)


def test_a_private_model_is_there_for_its_holder_only(catalog: Catalog) -> None:
    assert catalog.find("secret", "main", HOLDER).revision == SECRET.id
    assert catalog.channels("secret", HOLDER) == {"stable": SECRET.id}
    assert catalog.channels("secret", ANYBODY) == {}
    assert catalog.is_private(SECRET.id)
    assert not catalog.is_private(OPEN.id)


@pytest.mark.parametrize("model", ["secret", "absent"])
def test_who_shows_nothing_cannot_tell_private_from_absent(catalog: Catalog, model: str) -> None:
    for reader in (ANYBODY, REFUSED):
        with pytest.raises(UnauthorizedError, match=f"no model '{model}', or it needs"):
            catalog.readable(model, reader)
    with pytest.raises(ForbiddenError, match=f"does not open the model '{model}'"):
        catalog.readable(model, Reader("t2", ("other",)))


def test_who_may_know_is_told_that_there_is_no_such_model(catalog: Catalog) -> None:
    with pytest.raises(ModelUnknownError):
        catalog.readable("security", HOLDER)


def test_a_private_revision_of_a_public_model_is_not_there(catalog: Catalog) -> None:
    assert catalog.readable("half", ANYBODY) == (HALF.id,)
    assert catalog.channels("half", ANYBODY) == {"stable": HALF.id}
    for name in ("hidden", HIDDEN.id, commit_of(HIDDEN.id)):
        with pytest.raises(RevisionUnknownError):
            catalog.find("half", name, ANYBODY)
    assert catalog.find("half", "hidden", Reader("t", ("*",))).revision == HIDDEN.id


def test_what_is_not_signed_is_for_nobody(catalog: Catalog) -> None:
    assert not catalog.may_read("chat", SECRET.id, Reader("t", ("*",)))


def test_a_model_stands_with_a_known_namespace_or_without() -> None:
    names = ("headwater", "library")
    assert model_in("chat", names) == model_in("library/chat", names) == "chat"
    for unknown in ("elsewhere/chat", "headwater/more/chat"):
        with pytest.raises(ModelUnknownError):
            model_in(unknown, names)
    for bad in (
        "",
        "headwater/",
        "a b",
        "headwater/..",
        "library/%2e",
        "../chat",
        "/chat",
        "x" * 97,
    ):
        with pytest.raises(NameInvalidError):
            model_in(bad, names)


def test_the_catalog_follows_the_view() -> None:
    source = SignedSource()
    views = CatalogSource(lambda: source.repository.view)
    assert views() is views()
    publish_in(source, OPEN)
    assert views().find("chat", "main", ANYBODY).revision == OPEN.id
    with pytest.raises(CatalogMissingError):
        CatalogSource(lambda: None)()
