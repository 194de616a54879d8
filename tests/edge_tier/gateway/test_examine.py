"""One text, step by step: each step sees what the one before it brought to light."""

from __future__ import annotations

import pytest

from edge_tier.gateway.content import ContentScreen
from edge_tier.gateway.examine import Budget, Examined, action_of, examine
from edge_tier.gateway.hidden import Cut, HiddenTextError
from edge_tier.gateway.homoglyphs import Trick
from edge_tier.gateway.personal_data import Match, TooMuchPersonalDataError
from edge_tier.gateway.request import ContentRule, Rules
from edge_tier.gateway.screen import ControlLiterals

SCREEN = ControlLiterals(["<|start|>"])
NO_CONTENT = ContentScreen((), "input")


def examined(text: str, rules: Rules, *, fold: bool = True, **left: int) -> Examined:
    budget = Budget(**{"hidden": 100, "personal": 100, "words": 100, **left})
    content = ContentScreen(rules.content, "input")
    return examine(text, rules, SCREEN, content, budget, fold=fold)


def test_a_clean_text_gives_nothing() -> None:
    assert examined("hello", Rules()) == Examined("hello", "hello", [], [], [], [], [])


def test_cutting_then_folding_then_finding() -> None:
    rules = Rules(homoglyphs="fold", content=(ContentRule(name="r", words=("start",)),))
    one = examined("<|st\u200bаrt|> jоe@exаmple.com", rules)
    assert one.text == "<|start|> joe@example.com"
    assert one.cuts == [Cut("zero_width", 4, 5)]
    assert one.tricks == [Trick(2, 7), Trick(10, 13), Trick(14, 21)]
    assert one.personal == [Match("email", 10, 25)]
    assert one.hits == [0]
    assert one.literals == [Match("control_literal", 0, 9)]


def test_flagged_tricks_stay_in_the_text_and_hide_nothing() -> None:
    one = examined("jоe@exаmple.com", Rules(homoglyphs="flag"))
    assert one.text == "jоe@exаmple.com"
    assert one.personal == [Match("email", 0, 15)]


def test_where_nothing_may_be_folded_nothing_is() -> None:
    assert examined('{"раypal":1}', Rules(homoglyphs="fold"), fold=False).text == '{"раypal":1}'


def test_the_budget_is_one_for_all_texts() -> None:
    budget = Budget(hidden=3, personal=3, words=3)
    for _ in range(3):
        examine("a\u200bb a@b.co раypal", Rules(), SCREEN, NO_CONTENT, budget, fold=True)
    assert budget == Budget(hidden=0, personal=0, words=0)
    one = examine("раypal", Rules(), SCREEN, NO_CONTENT, budget, fold=True)
    assert one.tricks == []
    with pytest.raises(HiddenTextError):
        examined("a\u200bb", Rules(), hidden=0)
    with pytest.raises(TooMuchPersonalDataError):
        examined("a@b.co", Rules(), personal=0)


def test_the_action_of_a_kind() -> None:
    rules = Rules(personal_data="mask", personal_kinds={"email": "off"})
    assert action_of("email", rules) == "off"
    assert action_of("phone", rules) == "mask"
    assert examined("a@b.co", rules).personal == []
