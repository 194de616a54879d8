"""One running fleet for all system tests of a worker; each finds it well, and leaves it so."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.canaries import SOON
from tests.fakes.fleet import Fleet
from tests.fakes.processes import processes_in

SETTINGS = {
    # As many streams at once as the tests have running.
    "HEADWATER_WORKER__ENGINE__SLOTS": "10",
    # A signed change is heard by event; these only bound how long a lost event may matter.
    "HEADWATER_EDGE__REFRESH_S": "1",
    "HEADWATER_WORKER__REVALIDATE_S": "2",
    # A roll asks the edges and hears from them in reports: it waits for two of these.
    "HEADWATER_EDGE__FLEET__REPORT_S": "0.2",
    **SOON,
}


_HERE = Path(__file__).parent
_FLEET = pytest.StashKey[Fleet]()
_RUNNING = pytest.StashKey[ExitStack]()


@pytest.fixture(scope="session")
def _running(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Fleet]:
    pytest.importorskip("xllamacpp")
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), SETTINGS)
    fleet.start()
    with ExitStack() as running:
        running.callback(_stop, fleet)
        pytestconfig.stash[_RUNNING] = running
        yield fleet


def _stop(fleet: Fleet) -> None:
    fleet.stop()
    assert processes_in(fleet.state.root) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """After the last system test nothing runs beside the other tests."""
    yield
    running = item.config.stash.get(_RUNNING, None)
    if running is not None and (nextitem is None or not nextitem.path.is_relative_to(_HERE)):
        running.close()


@pytest.fixture
def fleet(_running: Fleet, request: pytest.FixtureRequest) -> Fleet:
    """The fleet, every tier ready and the worker idle at the signed revision."""
    request.node.stash[_FLEET] = _running
    _running.settle()
    return _running


@pytest.fixture(scope="session")
def up_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of ``headwater up``; a later start finds what an earlier one made."""
    return tmp_path_factory.mktemp("up")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a system test. They come first: while they wait, the rest goes
    on."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.system)
    items.sort(key=lambda item: not item.path.is_relative_to(_HERE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the tiers logged, below a test that failed."""
    report = yield
    if report.failed and (fleet := item.stash.get(_FLEET, None)) is not None:
        report.sections.append(("logs of the fleet", fleet.logs()))
    return report
