from __future__ import annotations

from wire import errors
from wire.errors import HeadwaterError


def test_every_error_has_a_code_of_its_own_and_a_status() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, HeadwaterError)
    ]
    assert [kind for kind in kinds if "code" not in vars(kind)] == []
    assert all(400 <= kind.status < 600 for kind in kinds)


def test_headers_belong_to_one_error() -> None:
    one, other = HeadwaterError("a"), HeadwaterError("b", headers={"Retry-After": "1"})
    one.headers["x"] = "y"
    assert other.headers == {"Retry-After": "1"}
    assert HeadwaterError("c").headers == {}
    assert str(one) == one.message == "a"
