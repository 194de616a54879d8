"""edge_tier.gateway.asking: one worker, asked in the caller's lane."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tier.gateway.asking import Asking
from edge_tier.gateway.opened import StepFailedError
from edge_tier.gateway.request import Step
from edge_tier.gateway.sending import Pools
from tests.edge_tier.gateway.test_backends import wanted
from tests.fakes.gateway import MODEL, gateway_in

STEP = Step(target="worker", model=MODEL)


@pytest.mark.parametrize("other", [True, False])
async def test_ids_are_answered_by_their_revision_or_not_at_all(
    tmp_path: Path, other: bool
) -> None:
    async with gateway_in(tmp_path) as gateway:
        pools = Pools("token", None)
        asking = Asking(gateway.fleet, gateway.models, pools, gateway.counts)
        member = gateway.fleet.member("w1", MODEL)
        assert member is not None
        gateway.worker.name = gateway.other_revision if other else gateway.revision
        if other:
            with pytest.raises(StepFailedError, match="another revision"):
                await asking.open(STEP, member, wanted(gateway, "worker"))
        else:
            opened = await asking.open(STEP, member, wanted(gateway, "worker"))
            assert (opened.revision, opened.prompt_ids) == (gateway.revision, (1, 2))
            opened.close()
        assert member.in_flight == 0
        assert [(f.revision, f.failed) for f in gateway.counts.figures()] == [
            (gateway.revision, int(other))
        ]
        await pools.aclose()


async def test_a_bundle_that_is_not_there_is_not_the_clients_fault(tmp_path: Path) -> None:
    """A worker says that it rolled to what has no bundle for the edge."""
    async with gateway_in(tmp_path) as gateway:
        pools = Pools("token", None)
        asking = Asking(gateway.fleet, gateway.models, pools, gateway.counts)
        gateway.report(revision="e" * 64)
        member = gateway.fleet.member("w1", MODEL)
        assert member is not None
        with pytest.raises(StepFailedError):
            await asking.open(STEP, member, wanted(gateway, "worker"))
        assert gateway.counts.figures() == ()
        await pools.aclose()
