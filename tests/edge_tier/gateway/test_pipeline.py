from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_tier.gateway.hints import Hints
from edge_tier.gateway.pipeline import Inbound, PipelineConfig, Stopwatch, with_threshold
from edge_tier.gateway.request import Limits
from edge_tier.gateway.route import CloudTraits, RouteConfig
from tests.fakes.clock import ManualClock
from tests.fakes.gateway import MODEL, Gateway, gateway_in
from wire.errors import ConfigError, HeadwaterError


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path, PipelineConfig(default_max_tokens=50)) as made:
        yield made


def inbound(gateway: Gateway, key: str | None = None, **fields: object) -> Inbound:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | fields
    return Inbound(
        kind="chat",
        caller=gateway.pipeline.authenticate(f"Bearer {key or gateway.key}"),
        body=json.dumps(body).encode(),
        hints=Hints(),
    )


def test_a_stopwatch_gives_each_stage_its_own_time() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    clock.advance(0.001)
    watch.lap("auth")
    clock.advance(0.0025)
    watch.lap("parse")
    assert watch.header() == "auth;dur=1.000, parse;dur=2.500"


async def test_an_admitted_request_has_everything(gateway: Gateway) -> None:
    watch = Stopwatch()
    admitted = await gateway.pipeline.admit(inbound(gateway), watch)
    assert admitted.caller.tenant == "t"
    assert admitted.tokens.revision == gateway.revision
    assert admitted.max_tokens == 50
    assert admitted.plan.steps[0].target == "worker"
    assert admitted.reservation.charge.tokens == len(admitted.tokens) + 50
    assert [name for name, _ in watch.stages] == [
        *("parse", "sanitize", "screen", "tokenize", "classify", "route", "reserve"),
    ]


async def test_every_choice_may_use_the_whole_answer(gateway: Gateway) -> None:
    gateway.report(features=frozenset({"n"}))
    admitted = await gateway.pipeline.admit(inbound(gateway, n=3), Stopwatch())
    assert admitted.max_tokens == 50
    assert admitted.reservation.charge.tokens == len(admitted.tokens) + 150
    assert admitted.features == {"n"}


async def test_what_nothing_can_do_leaves_nothing_reserved(gateway: Gateway) -> None:
    key = gateway.new_key(limits=Limits(tokens_per_minute=200))
    for _ in range(5):
        with pytest.raises(HeadwaterError, match="not supported"):
            await gateway.pipeline.admit(inbound(gateway, key, n=2), Stopwatch())
    await gateway.pipeline.admit(inbound(gateway, key), Stopwatch())


async def test_the_answer_is_clamped_to_the_context(gateway: Gateway) -> None:
    admitted = await gateway.pipeline.admit(inbound(gateway, max_tokens=4096), Stopwatch())
    assert admitted.max_tokens == 2048 - len(admitted.tokens)


async def test_a_request_that_cannot_be_routed_leaves_nothing_reserved(gateway: Gateway) -> None:
    key = gateway.new_key(limits=Limits(tokens_per_minute=1000, max_output_tokens=900))
    gateway.report(state="draining")
    for _ in range(5):
        with pytest.raises(HeadwaterError) as caught:
            await gateway.pipeline.admit(inbound(gateway, key, max_tokens=900), Stopwatch())
        assert caught.value.code == "no_route"


async def test_an_edge_without_any_model_says_so(gateway: Gateway) -> None:
    gateway.forget_models()
    with pytest.raises(HeadwaterError) as caught:
        await gateway.pipeline.admit(inbound(gateway), Stopwatch())
    assert caught.value.code in {"models_not_ready", "trust_failed"}


POLICIES = """
[[policies.default.content]]
name = "topic"
words = ["bluebird"]
action = "flag"
[[policies.default.routes]]
name = "budget"
when = { budget_used_min = 0.5, kind = "chat" }
target = "local"
[[policies.default.routes]]
name = "topic"
when = { findings = "topic" }
target = "local"
[[policies.default.routes]]
name = "personal"
when = { findings = "personal", cloud_allowed = false }
target = "local"
[[policies.default.routes]]
name = "priced"
when = { cloud_cost_min = 0.05 }
target = "cloud"
"""


@pytest.mark.parametrize(
    ("content", "max_tokens", "rule"),
    [
        ("hello", 1, ""),
        ("a bluebird", 1, "topic"),
        ("mail bob@example.com", 1, "personal"),
        ("hello", 100, "priced"),
    ],
)
async def test_a_table_sees_what_the_stages_before_it_found(
    tmp_path: Path, content: str, max_tokens: int, rule: str
) -> None:
    traits = CloudTraits(output_price=1_000.0)
    async with gateway_in(tmp_path, policies=POLICIES, cloud_traits=traits) as gateway:
        key = gateway.new_key(limits=Limits(tokens_per_day=1_000))
        messages = [{"role": "user", "content": content}]
        asked = inbound(gateway, key, model="auto", messages=messages, max_tokens=max_tokens)
        admitted = await gateway.pipeline.admit(asked, Stopwatch())
        assert admitted.plan.rule == rule


async def test_a_table_sees_the_part_of_the_budget_that_is_used(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, policies=POLICIES) as gateway:
        key = gateway.new_key(limits=Limits(tokens_per_day=1_000))
        rules = []
        for max_tokens in (600, 1):
            asked = inbound(gateway, key, model="auto", max_tokens=max_tokens)
            admitted = await gateway.pipeline.admit(asked, Stopwatch())
            rules.append(admitted.plan.rule)
        assert rules == ["", "budget"]


def test_a_threshold_follows_from_a_target() -> None:
    most = with_threshold(RouteConfig(local_share=0.9)).threshold
    few = with_threshold(RouteConfig(local_share=0.2)).threshold
    assert 0 <= few < most <= 1
    strict = with_threshold(RouteConfig(target_quality=0.9)).threshold
    loose = with_threshold(RouteConfig(target_quality=0.1)).threshold
    assert strict < loose
    assert with_threshold(RouteConfig(threshold=0.3)).threshold == 0.3


@pytest.mark.parametrize(
    "config",
    [RouteConfig(local_share=0.5, target_quality=0.5), RouteConfig(local_share=1.5)],
)
def test_a_target_that_cannot_be_is_refused(config: RouteConfig) -> None:
    with pytest.raises(ConfigError):
        with_threshold(config)
