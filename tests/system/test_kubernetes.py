"""The laptop overlay, its pods run as processes: what is shipped starts, finds each other, and
answers. Everything but the cluster is real: programs, configuration, Secrets, the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from infra.ask import Asker
from infra.demo_models import path as demo_file
from infra.kubernetes.secrets import Folder, origin_objects, prepare, region_objects
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_publisher
from infra.state import read_secret
from tests.fakes.fleet import eventually
from tests.fakes.kubelet import Kubelet, is_ready, metrics_of
from tests.fakes.kubernetes import overlay
from wire.paths import DEFAULT_CHANNEL


@dataclass(frozen=True, slots=True)
class Laptop:
    """The overlay on this machine."""

    folder: Folder
    urls: dict[str, str]


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    root = tmp_path_factory.mktemp("laptop")
    folder = Folder(root / "keys")
    prepare(folder, {}, "acme")
    given = [*origin_objects(folder), *region_objects(folder)]
    kubelet = Kubelet(root, overlay("laptop"), given)
    with ExitStack() as stack:
        urls = {}
        for name in ("origin", "edge", "worker"):
            urls[name] = stack.enter_context(kubelet.run(name))
            if name == "origin":
                admin = read_secret(folder.file("admin-token"))
                key = folder.keys / "publisher.key"
                with open_publisher(urls["origin"], admin, key) as desk:
                    desk.publish(demo_file("edge-small-r1"), LOCAL_MODEL, DEFAULT_CHANNEL)
        yield Laptop(folder, urls)


def test_every_pod_becomes_ready(laptop: Laptop) -> None:
    eventually(lambda: all(is_ready(url) for url in laptop.urls.values()), 30)
    assert set(laptop.urls) == {"origin", "edge", "worker"}


async def test_a_client_is_answered_with_the_key_that_was_made(laptop: Laptop) -> None:
    key = read_secret(laptop.folder.api_key)
    ask = [{"role": "user", "content": "What is the capital of France?"}]
    eventually(lambda: "headwater_gateway_workers 1.0" in metrics_of(laptop.urls["edge"]), 30)
    async with Asker(laptop.urls["edge"], key) as asker:
        answer = await asker.ask(ask, model=LOCAL_MODEL)
    assert answer.whole
    assert "Paris" in answer.text


def test_what_scales_in_production_is_measured_here(laptop: Laptop) -> None:
    """Scraped from the real processes: the names stand in the component ``autoscaling``."""
    edge, worker = metrics_of(laptop.urls["edge"]), metrics_of(laptop.urls["worker"])
    assert "\nheadwater_gateway_streams 0.0\n" in edge
    assert "\nheadwater_worker_queue 0.0\n" in worker
    assert "\nheadwater_worker_busy 0.0\n" in worker


def test_the_origin_hears_of_edge_and_worker(laptop: Laptop) -> None:
    """Through ``dns+http://``, as pods find each other behind a headless Service."""
    eventually(
        lambda: (
            'headwater_fleet_nodes{kind="worker",state="ready"} 1.0'
            in metrics_of(laptop.urls["origin"])
        )
    )
