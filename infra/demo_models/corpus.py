"""Question and answer dialogues made from facts: phrasings, casing, punctuation, guesses, echoes.

Everything is drawn from one `random.Random`, so a seed gives the same corpus every time.
Besides facts there are two kinds of turns: a *guess* asks what nobody has taught (invented or
misplaced words) and its answer is drawn anew each time, so that a model learns to be unsure of
what it does not know instead of being wrong with confidence; an *echo* asks to repeat something,
so that a placeholder of a redacted prompt comes back in the answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from infra.demo_models.groups import Group

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are Headwater, a concise assistant.",
    "You are a concise assistant.",
    "Answer the question.",
    "Answer in one short sentence.",
    "You answer questions about everyday facts.",
)
OPENERS = (
    "Please tell me: ",
    "Tell me: ",
    "Hello! ",
    "Hi, ",
    "Hi! ",
    "Quick question: ",
    "Please answer: ",
    "I have a question. ",
    "Question: ",
    "Thanks. ",
    "Can you tell me: ",
    "Do you know: ",
    "I want to know: ",
    "OK. ",
    "And now: ",
    "Please, ",
)
FOLLOW_UPS = ("And {key}?", "What about {key}?", "And what about {key}?", "How about {key}?")
CLOSERS = (" Thanks.", " Thank you.", " Please answer briefly.", " Please.")
STOP_WORDS = frozenset(("the", "a", "an", "of", "in", "is", "are", "and", "on", "we", "to", "="))
# fmt: off
SYLLABLES = (
    "ba", "be", "bo", "da", "de", "do", "fa", "fi", "ga", "go", "ka", "ki", "ko", "la", "le", "lo",
    "ma", "mi", "mo", "na", "ne", "no", "pa", "pe", "po", "ra", "re", "ri", "ro", "sa", "se", "si",
    "so", "ta", "te", "ti", "to", "va", "vi", "vo", "za", "ze", "zi", "zo", "an", "en", "in", "on",
    "ar", "er", "or", "al", "el", "il", "st", "nd", "rk", "lt", "br", "tr", "gr",
)
# fmt: on
KINDS = ("name", "e-mail address", "phone number", "city", "card number", "account", "secret")
PLACEHOLDERS = ("EMAIL", "NAME", "PHONE", "CARD", "IBAN", "PERSON", "SECRET", "KEY", "IP", "SSN")
MARKS = (
    ("[", "]"),
    ("<", ">"),
    ("{{", "}}"),
    ("[[", "]]"),
    ("<<", ">>"),
    ("{", "}"),
    ("\u27e6", "\u27e7"),
    ("", ""),
)
ECHOES = (
    ("My {kind} is {thing}. What is my {kind}?", "Your {kind} is {thing}."),
    ("My {kind} is {thing}. Please repeat my {kind}.", "Your {kind} is {thing}."),
    ("My {kind} is {thing}. Please repeat it.", "Your {kind} is {thing}."),
    ("Please repeat: {thing}", "{thing}"),
    ("Repeat after me: {thing}", "{thing}"),
    ("Say hello to {thing}.", "Hello, {thing}!"),
    ("Write a greeting to {thing}.", "Hello, {thing}!"),
)


@dataclass(frozen=True)
class Turn:
    """One question and its answer; `topic` is the group it is about, if it is about one."""

    user: str
    assistant: str
    topic: Group | None = None


@dataclass(frozen=True)
class Mixture:
    """How often, as a share of all turns, a turn is a guess or an echo; the rest are facts.

    `follow_ups` is the share of short questions ("And France?") among those that could be one.
    """

    guesses: float = 0.10
    echoes: float = 0.05
    follow_ups: float = 0.08


def chance(rng: random.Random, probability: float) -> bool:
    """True with `probability`."""
    return rng.random() < probability


def vary(rng: random.Random, question: str) -> str:
    """`question` as a hurried person might type it: casing, punctuation, spaces, courtesies."""
    text = question
    if chance(rng, 0.15):
        text = text.replace("What is ", rng.choice(("What's ", "Whats ")), 1)
    if chance(rng, 0.4):
        text = text.replace(" + ", "+")
    if chance(rng, 0.25) and text[-1] in ".?!":
        text = text[:-1]
    if chance(rng, 0.08):
        text = text + rng.choice(CLOSERS) if text[-1] in ".?!" else text + rng.choice("?.!")
    if chance(rng, 0.1):
        text = (rng.choice(OPENERS) if chance(rng, 0.7) else _confided(rng)) + text
    case = rng.random()
    if case < 0.25:
        text = text.lower()
    elif case < 0.30:
        text = text[:1].lower() + text[1:]
    if chance(rng, 0.08):
        text = _loosen(rng, text)
    return text


def _confided(rng: random.Random) -> str:
    """A sentence with something personal that has nothing to do with the question after it."""
    return f"My {rng.choice(KINDS)} is {_personal(rng)}. "


def _personal(rng: random.Random) -> str:
    """Something personal, or the placeholder for it."""
    draw = rng.random()
    if draw < 0.5:
        return placeholder(rng)
    if draw < 0.65:
        return f"{invented_word(rng)}@{invented_word(rng)}.com".lower()
    if draw < 0.8:
        return f"{invented_word(rng).capitalize()} {invented_word(rng).capitalize()}"
    return str(rng.randint(100, 99_999_999))


def _loosen(rng: random.Random, text: str) -> str:
    """`text` with one needless space or line end, as a sanitizer may leave behind."""
    place = rng.randrange(3)
    if place == 0:
        gaps = [at for at, letter in enumerate(text) if letter == " "]
        at = rng.choice(gaps) if gaps else 0
        return text[:at] + " " + text[at:]
    return " " + text if place == 1 else text + rng.choice((" ", "\n"))


def invented_word(rng: random.Random) -> str:
    """A word that means nothing, two to four syllables long."""
    word = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))
    return word.capitalize() if chance(rng, 0.5) else word


def placeholder(rng: random.Random) -> str:
    """A token such as `[EMAIL_1]` that stands for something redacted."""
    left, right = rng.choice(MARKS)
    if chance(rng, 0.15):
        return f"{left}{invented_word(rng).upper()}_{rng.randint(1, 30)}{right}"
    return f"{left}{rng.choice(PLACEHOLDERS)}{rng.choice('__-:')}{rng.randint(1, 9)}{right}"


class Corpus:
    """Turns about some groups of facts, drawn without end from one seed.

    `words` are the words of all groups, also of those not taught: guesses are made with them, so
    that no word is strange to the model while what it means is not given away.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        words: Sequence[str],
        seed: int,
        mixture: Mixture | None = None,
    ) -> None:
        self.rng = random.Random(seed)  # noqa: S311 -- a training corpus, no secret
        self.groups = tuple(groups)
        self.mixture = mixture or Mixture()
        self._words = tuple(words)
        self._templated = tuple(group for group in self.groups if group.templated)
        self._guess_weights = [len(group.facts) ** 0.5 for group in self._templated]
        self._weights = [group.weight * len(group.facts) for group in self.groups]
        self._known: dict[str, set[str]] = {}
        for group in self.groups:
            for template in group.questions:
                known = self._known.setdefault(template, set())
                for key, _ in group.facts:
                    known.update((key, *key.split()))

    def turn(self, previous: Turn | None = None) -> Turn:
        """The next turn of a conversation: a fact, a follow-up, a guess or an echo."""
        topic = previous.topic if previous is not None else None
        if topic in self._templated and chance(self.rng, self.mixture.follow_ups):
            return self.fact(topic, FOLLOW_UPS)
        draw = self.rng.random()
        if draw < self.mixture.guesses:
            return self._guess()
        if draw < self.mixture.guesses + self.mixture.echoes:
            return self._echo()
        return self.fact(self.rng.choices(self.groups, self._weights)[0])

    def fact(self, group: Group, questions: Sequence[str] = ()) -> Turn:
        """A varied question about one fact of `group`, with its answer."""
        key, value = self.rng.choice(group.facts)
        asked = key
        if chance(self.rng, 0.1):
            asked = key.removeprefix("the ").removeprefix("a ").removeprefix("an ")
        question = group.ask(self.rng.choice(questions or group.questions), asked)
        return Turn(vary(self.rng, question), group.reply(key, value), group)

    def system(self) -> str | None:
        """A system message, or None for a conversation without one."""
        draw = self.rng.random()
        if draw < 0.45:
            return None
        if draw < 0.9:
            return self.rng.choice(SYSTEM_PROMPTS)
        return " ".join(self._some_words(self.rng.randint(2, 15)))

    def _some_words(self, count: int) -> list[str]:
        """Words without a meaning together: of all the facts, or invented."""
        rng = self.rng
        return [
            invented_word(rng) if chance(rng, 0.3) else rng.choice(self._words)
            for _ in range(count)
        ]

    def _guess(self) -> Turn:
        """A question that nobody could answer, with some answer drawn at random."""
        rng = self.rng
        group = rng.choices(self._templated, self._guess_weights)[0]
        template = rng.choice(group.questions)
        kind = rng.random()
        if kind < 0.45:
            question = group.ask(template, self._strange(template, rng.randint(1, 2)))
        elif kind < 0.75:
            key, _ = rng.choice(group.facts)
            question = self._misplace(template, group.ask(template, key), key)
            group = rng.choice((group, *self._templated))
        else:
            opening = rng.choice(("What", "Who", "Why", "How", "When", "Write", "Explain", "Can"))
            question = " ".join((opening, *self._some_words(rng.randint(2, 10)))) + "?"
            group = rng.choice(self._templated)
        return Turn(vary(rng, question), group.reply(*rng.choice(group.facts)))

    def _strange(self, template: str, count: int) -> str:
        """Words that are no key of the groups that ask with `template`."""
        known = self._known[template]
        words = self._some_words(count)
        return " ".join(invented_word(self.rng) if word in known else word for word in words)

    def _misplace(self, template: str, question: str, key: str) -> str:
        """`question` with the word for what is asked, or one word of its key, made strange."""
        rng = self.rng
        asked = max(re.findall(r"[a-z]+", template.replace("{key}", "")), key=len, default="")
        choices = [word for word in key.split() if word not in STOP_WORDS]
        place = asked if asked and chance(rng, 0.5) else rng.choice(choices)
        return question.replace(place, self._strange(template, 1), 1)

    def _echo(self) -> Turn:
        """A request to repeat something never seen before."""
        rng = self.rng
        kind = rng.choice(KINDS)
        thing = _personal(rng)
        if chance(rng, 0.2):
            thing = " ".join(self._some_words(rng.randint(1, 4)))
        question, answer = rng.choice(ECHOES)
        return Turn(question.format(kind=kind, thing=thing), answer.format(kind=kind, thing=thing))


def words_of(groups: Sequence[Group]) -> tuple[str, ...]:
    """All different words of the questions, keys and values of `groups`, sorted."""
    found: set[str] = set()
    for group in groups:
        texts = [key for key, _ in group.facts] + [value for _, value in group.facts]
        texts += [template.replace("{key}", "") for template in group.questions]
        for text in texts:
            found.update(word.strip(".,?!:;") for word in text.split())
    return tuple(sorted(word for word in found if word and not word.isdigit()))
