from __future__ import annotations

from origin.documents import DAY_S
from origin.rotate import read_current
from origin.signing import Repository
from origin.trust_report import report
from tests.fakes.revisions import ONLINE_KEY, PUBLISHER_KEY, ROOT_KEY

NOW = 1_000_000_000.0


def test_report_names_keys_and_what_is_due() -> None:
    repository = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=NOW)
    current = read_current(repository.bundle(0), repository.first_root)
    fresh = report(current, NOW)
    assert (fresh["state"], fresh["warnings"]) == ("fresh", [])
    roles = fresh["roles"]
    assert isinstance(roles, list)
    assert [role["role"] for role in roles] == [
        "root",
        "timestamp",
        "snapshot",
        "targets",
        "revisions",
        "channels",
    ]
    assert roles[0]["keys"] == [{"id": ROOT_KEY.public_key.keyid, "algorithm": "ed25519"}]
    assert roles[5]["keys"] == [{"id": ONLINE_KEY.public_key.keyid, "algorithm": "ed25519"}]
    soon = report(current, NOW + 340 * DAY_S)
    warnings = soon["warnings"]
    assert isinstance(warnings, list)
    assert soon["state"] == "beyond_grace"
    assert "root expires in 25 days: run `headwater origin rotate`" in warnings[0]
    assert any(text.startswith("timestamp has expired: the origin") for text in warnings)
    assert any(text.startswith("revisions expires in 25 days: run") for text in warnings)
    assert "root has expired" in str(report(current, NOW + 366 * DAY_S)["warnings"])
