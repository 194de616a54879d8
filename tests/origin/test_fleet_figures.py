from __future__ import annotations

from origin.fleet_figures import Figures
from tests.fakes.reports import REVISIONS
from wire.fleet import RevisionFigures

OLD, NEW = REVISIONS[:2]


def counted(answered: int, revision: str = NEW, **fields: int) -> RevisionFigures:
    return RevisionFigures(
        model="chat", revision=revision, answered=answered, first_token=(0, answered), **fields
    )


def total(figures: Figures, revision: str = NEW) -> int:
    return figures.total("chat", revision).answered


def restarted(figures: Figures, *edges: str) -> Figures:
    again = Figures()
    for edge in edges:
        again.restore(edge, figures.lives(edge))
    again.restore_retired(figures.retired())
    return again


def test_edges_and_lives_add_up() -> None:
    figures = Figures()
    figures.count("e1", 1.0, [counted(5, failed=2)])
    figures.count("e1", 1.0, [counted(7, failed=2)])
    figures.count("e2", 1.0, [counted(1)])
    figures.count("e1", 2.0, [counted(3, failed=1)])
    found = figures.total("chat", NEW)
    assert (found.answered, found.failed) == (11, 3)
    assert found.first_token == (0, 11, *[0] * 14)
    assert figures.knows("e1", 1.0)
    assert not figures.knows("e2", 2.0)


def test_what_an_edge_no_longer_tells_stays_counted() -> None:
    figures = Figures()
    figures.count("e1", 1.0, [counted(5), counted(9, OLD)])
    figures.count("e1", 1.0, [counted(6)])
    assert (total(figures), total(figures, OLD)) == (6, 9)


def test_lives_that_are_long_over_and_edges_that_are_gone_stay_counted() -> None:
    figures = Figures()
    for started in range(20):
        figures.count("e1", float(started), [counted(1)])
    assert total(figures) == 20
    assert len(figures.lives("e1")) == 4
    figures.forget("e1")
    assert total(figures) == 20
    assert total(restarted(figures)) == 20


def test_a_restart_of_the_origin_knows_the_lives_apart() -> None:
    figures = Figures()
    figures.count("e1", 1.0, [counted(5)])
    figures.count("e1", 2.0, [counted(3)])
    again = restarted(figures, "e1")
    again.count("e1", 2.0, [counted(4)])
    assert total(again) == 9


def test_counts_are_bounded_whatever_an_edge_tells() -> None:
    figures = Figures()
    for started in range(50):
        for first in range(0, 1_280, 128):
            names = [f"{started:032d}{number:032d}" for number in range(first, first + 128)]
            figures.count("e1", float(started), [counted(1, name) for name in names])
    assert len(figures.retired()) == 1_024
    assert sum(len(life.figures) for life in figures.lives("e1")) == 4 * 512
