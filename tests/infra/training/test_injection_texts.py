"""The texts of our own: filled, all different, and of one kind only."""

from __future__ import annotations

from infra.training.injection_texts import attacks, look_alikes, roles


def test_texts_are_filled_and_differ() -> None:
    for texts in (list(attacks()), list(look_alikes()), list(roles())):
        assert len(texts) > 200
        assert len(set(texts)) == len(texts)
        assert not [text for text in texts if "{" in text or "}" in text]


def test_no_attack_is_called_harmless() -> None:
    assert not set(attacks()) & {*look_alikes(), *roles()}
