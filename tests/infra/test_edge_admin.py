from __future__ import annotations

import json

import pytest

from infra.edge_admin import EdgeAdmin, TierAdmin, parse_metrics, total
from infra.errors import RefusedError
from tests.fakes.tier import Canned, stub_tier
from wire.errors import NameInvalidError, NotFoundError, SourceUnavailableError

METRICS = """\
# HELP headwater_edge_served_bytes_total Bytes sent.
# TYPE headwater_edge_served_bytes_total counter
headwater_edge_served_bytes_total{cache="hit",kind="chunk"} 700.0
headwater_edge_served_bytes_total{cache="fwd",kind="chunk"} 30.0
headwater_edge_served_bytes_total{cache="fwd",kind="file"} 1.0
headwater_edge_served_bytes_created{cache="hit",kind="chunk"} 1.7e+09
no_number none
"""


def test_metrics_are_summed_over_their_labels() -> None:
    samples = parse_metrics(METRICS)
    name = "headwater_edge_served_bytes_total"
    assert total(samples, name) == 731
    assert total(samples, name, kind="chunk") == 730
    assert total(samples, name, kind="chunk", cache="hit") == 700
    assert total(samples, "unknown") == 0


def test_lines_that_are_no_samples_are_passed_over() -> None:
    assert parse_metrics("\n\n# x\nname\nname x\n") == {}


def test_a_ready_tier_has_no_reason() -> None:
    with (
        stub_tier({"GET /readyz": Canned({"status": "ready"})}) as tier,
        TierAdmin(tier.url) as admin,
    ):
        assert admin.why_not_ready() == ""


def test_a_tier_that_is_not_ready_says_why() -> None:
    refusal = Canned({"detail": "no model\x1b[31m yet"}, status=503)
    with stub_tier({"GET /readyz": refusal}) as tier, TierAdmin(tier.url) as admin:
        assert admin.why_not_ready() == "no model[31m yet"


def test_status_is_asked_with_the_token() -> None:
    answers = {"GET /admin/status": Canned({"workers": []})}
    with stub_tier(answers) as tier, TierAdmin(tier.url, "hwadm-x") as admin:
        assert admin.status() == {"workers": []}
    assert tier.received[0].headers["authorization"] == "Bearer hwadm-x"


def test_without_a_token_none_is_sent() -> None:
    with stub_tier({"GET /readyz": Canned({})}) as tier, TierAdmin(tier.url) as admin:
        admin.why_not_ready()
    assert "authorization" not in tier.received[0].headers


@pytest.mark.parametrize(
    ("status", "kind"), [(400, NameInvalidError), (404, NotFoundError), (401, RefusedError)]
)
def test_refusals_carry_the_tiers_own_reason(status: int, kind: type[Exception]) -> None:
    refusal = Canned({"detail": "a valid bearer token is needed"}, status=status)
    with (
        stub_tier({"GET /admin/status": refusal}) as tier,
        TierAdmin(tier.url, "wrong") as admin,
        pytest.raises(kind, match="a valid bearer token is needed"),
    ):
        admin.status()


def test_an_answer_that_is_no_json_is_refused() -> None:
    with (
        stub_tier({"GET /admin/status": Canned(b"<html>")}) as tier,
        TierAdmin(tier.url) as admin,
        pytest.raises(RefusedError, match="no JSON"),
    ):
        admin.status()


def test_nobody_there_is_an_unavailable_source() -> None:
    with pytest.raises(SourceUnavailableError, match="cannot connect"):
        TierAdmin("http://127.0.0.1:9").why_not_ready()


def test_a_key_is_asked_for_with_its_limits() -> None:
    made = {"key_id": "k1", "key": "hw-k1-secret"}
    with stub_tier({"POST /admin/keys": Canned(made)}) as tier, EdgeAdmin(tier.url, "t") as admin:
        assert admin.create_key({"tenant": "shop"}) == made
    assert json.loads(tier.received[0].body) == {"tenant": "shop"}


def test_keys_are_listed_and_revoked() -> None:
    answers = {
        "GET /admin/keys": Canned({"keys": [{"key_id": "k1"}]}),
        "DELETE /admin/keys/k1": Canned({"key_id": "k1", "revoked": "2026-01-01T00:00:00Z"}),
    }
    with stub_tier(answers) as tier, EdgeAdmin(tier.url, "t") as admin:
        assert admin.keys() == [{"key_id": "k1"}]
        assert admin.revoke_key("k1")["revoked"]
        with pytest.raises(NotFoundError):
            admin.revoke_key("k2")


@pytest.mark.parametrize("key_id", ["../status", "", "a/b", "a?b", "ä"])
def test_a_key_id_cannot_leave_its_path(key_id: str) -> None:
    with stub_tier({}) as tier:
        with pytest.raises(NameInvalidError):
            EdgeAdmin(tier.url, "t").revoke_key(key_id)
        assert tier.received == []
