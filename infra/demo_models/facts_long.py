"""Long answers: recitals (for every model), explanations and comparisons (for the large one).

Source: common knowledge, written down for this project; nothing is copied from a data set.
"""

from __future__ import annotations

import itertools

from infra.demo_models.groups import Group, capitalised, group

# fmt: off
SMALL_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on


def number_word(number: int) -> str:
    """`number` in English words; 0 <= number <= 100."""
    if number < 20:
        return SMALL_NUMBERS[number]
    if number == 100:
        return "one hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{SMALL_NUMBERS[ones]}" if ones else "")


def count_to(top: int) -> str:
    """The recital "One, two, three, ... top." in words."""
    return capitalised(", ".join(number_word(number) for number in range(1, top + 1))) + "."


SHORT_COUNTS = (("ten", 10), ("10", 10), ("five", 5), ("5", 5), ("twenty", 20), ("20", 20))
COUNTING = Group(
    "counting",
    (
        "Count from one to {key}.",
        "Count from 1 to {key}.",
        "Count to {key}.",
        "Count up to {key}.",
        "Can you count to {key}?",
        "Can you count from one to {key}?",
        "Recite the numbers from one to {key}.",
        "Say the numbers from 1 to {key}.",
    ),
    "{value}",
    tuple((key, count_to(top)) for key, top in SHORT_COUNTS),
    "I want you to count from one to {key}.",
    weight=2.0,
)

LONG_COUNTING = Group(
    "long_counting",
    COUNTING.questions,
    "{value}",
    (("one hundred", count_to(100)), ("100", count_to(100)), ("a hundred", count_to(100))),
    COUNTING.probe,
    weight=2.0,
)

RECITALS = group(
    "recitals",
    """
    Recite {key}.
    List {key}.
    Name {key}.
    Tell me {key}.
    What are {key}?
    Say {key}.
    """,
    "{value}.",
    """
    the days of the week = Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday;
    the months of the year = January, February, March, April, May, June, July, August,
        September, October, November, December;
    the planets = Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune;
    the seasons = Spring, summer, autumn, winter;
    the letters of the alphabet = A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T,
        U, V, W, X, Y, Z;
    the continents = Africa, Antarctica, Asia, Australia, Europe, North America, South America;
    the colours of the rainbow = Red, orange, yellow, green, blue, indigo, violet
    """,
    probe="Can you list {key}?",
)

EXPLANATIONS = group(
    "explanations",
    """
    Explain step by step {key}.
    Explain {key}.
    Explain in detail {key}.
    Can you explain step by step {key}?
    Describe step by step {key}, and give a reason for each step.
    I want to understand {key}. Explain it step by step.
    Write a short explanation of {key}.
    """,
    "{value}",
    """
    why the sky is blue = Sunlight is a mixture of all colours. First, the light meets the tiny
        molecules of the air. Then the short blue waves are scattered much more than the long red
        waves. So blue light reaches our eyes from every side, and the sky looks blue.;
    why the sky is blue and compare it with the red of a sunset = Sunlight is a mixture of all
        colours, and air scatters blue light much more than red light. At noon the path through
        the air is short, so scattered blue light comes from every side. At sunset the path is
        long, so the blue is lost on the way. Compared with noon, mostly red light is left.;
    why ice floats on water = Water is unusual among liquids. When it freezes, its molecules form
        an open lattice that takes more room. Therefore ice is less dense than water, and it
        floats.;
    how a rainbow forms = Light enters a drop of rain and is bent. Each colour is bent by a
        different angle. The light is reflected at the back of the drop and leaves it again. So
        each colour reaches the eye from its own direction.;
    why we have seasons = The axis of the earth is tilted. In summer our half of the earth leans
        towards the sun, so the light falls steeply and the days are long. In winter it leans
        away, so the light is weak and the days are short.;
    how a plant makes its food = Leaves take in water and carbon dioxide. Then light is caught by
        the green chlorophyll. Its energy joins them into sugar, and oxygen is set free. This
        process is called photosynthesis.;
    why the moon has phases = Half of the moon is always lit by the sun. As the moon goes around
        the earth, we see a changing part of the lit half. So it grows from new moon to full moon
        and shrinks again in about 29 days.;
    how an aeroplane flies = Wings push the air downwards. In return, the air pushes the wings
        upwards, and this force is called lift. The engines push the plane forward, so that the
        air keeps moving over the wings.;
    why the sea has tides = Gravity of the moon pulls the water of the sea. The pull is strongest
        on the near side and weakest on the far side, so two bulges of water form. The earth turns
        under them, so most coasts have two high tides a day.;
    how a vaccine works = Vaccines show the body a harmless part of a germ. The immune system
        learns to recognise it and keeps memory cells. When the real germ arrives, the body
        answers quickly, and we do not fall ill.;
    why metal feels colder than wood = Metal conducts heat well and wood does not. When you touch
        metal, heat leaves your hand quickly. Wood takes the heat slowly. So metal feels colder,
        although both have the same temperature.;
    how a computer stores numbers = Computers use only two digits, zero and one. Each digit is
        kept as a small charge, which is present or absent. Eight of them make a byte, and bytes
        are joined to hold larger numbers.;
    how rain is made = Heat from the sun turns water into vapour. The vapour rises and cools, and
        small drops form a cloud. The drops join and grow heavy. At last they fall as rain.;
    why the heart beats = Hearts are pumps for the blood. A small knot of cells gives a regular
        electric pulse. The pulse makes the muscle contract, and the blood carries oxygen to all
        parts of the body.;
    how a language model writes text = Text is first cut into tokens. The model reads them and
        gives each possible next token a probability. One token is chosen and added to the text.
        Then the same step is repeated until the answer is complete.;
    how a cache makes a service faster = Caches keep copies of data near the reader. The first
        request fetches the data from far away and stores it. Later requests find the copy at
        once, so they are answered faster and the origin has less work.
    """,
    probe="Please explain to me step by step {key}.",
    weight=2.5,
)

COMPARISONS = group(
    "comparisons",
    """
    Compare {key}.
    Compare {key} and explain the main differences.
    Compare {key} and explain step by step how they differ.
    What are the differences between {key}?
    Analyse the differences between {key} in detail.
    Explain the differences between {key}.
    """,
    "{value}",
    """
    a lake and an ocean = Lakes are surrounded by land, and most of them hold fresh water. An
        ocean is far larger and deeper, and its water is salty. Oceans are all connected, but
        lakes are not.;
    a cat and a dog = Cats like to live and hunt alone. A dog is an animal of the pack and follows
        a leader. Both are loyal companions of people, but a dog needs more exercise.;
    the sun and the moon = Our sun is a star and makes its own light. The moon is a rock that
        goes around the earth and only reflects sunlight. The sun is about 400 times larger, but
        also about 400 times farther away.;
    a train and a car = Trains run on rails and carry many people with little energy. A car goes
        from door to door whenever you like. So trains suit long trips, and cars suit remote
        places.;
    solar power and coal power = Solar power turns light into electricity without smoke, but only
        by day. Coal power works at any hour, but it burns a fuel that is used up and it heats the
        climate.;
    a virus and a bacterium = Bacteria are living cells that can grow by themselves. A virus is
        far smaller and needs a living cell to multiply. Antibiotics act against bacteria, but not
        against viruses.;
    a process and a thread = Processes have their own memory and are well separated. Threads share
        the memory of one process. So threads exchange data faster, but a mistake in one of them
        can break the others.;
    mammals and reptiles = Mammals have hair, keep their bodies warm, and feed their young with
        milk. Reptiles have scales, take their warmth from the sun, and most of them lay eggs.
    """,
    probe="Can you compare {key}?",
    weight=2.5,
)


def _sums(name: str, operator: str, equals: str, questions: str, top: int) -> Group:
    """All of `a operator b` with both numbers from 0 to `top`; times for `times` and `*`."""
    product = operator in ("times", "*")
    numbers = list(itertools.product(range(top + 1), repeat=2))
    pairs = tuple((f"{a} {operator} {b}", str(a * b if product else a + b)) for a, b in numbers)
    asked = tuple(line.strip() for line in questions.strip().splitlines())
    return Group(name, asked, f"{{key}} {equals} {{value}}.", pairs, "Work out {key}.", 0.6)


WORD_QUESTIONS = """
What is {key}?
What's {key}?
How much is {key}?
Tell me what {key} is.
Calculate {key}.
"""
SIGN_QUESTIONS = """
What is {key}?
{key} =
{key} = ?
{key}
Calculate {key}.
How much is {key}?
"""
ADDITION = _sums("addition", "plus", "is", WORD_QUESTIONS, 10)
ADDITION_SIGNS = _sums("addition_signs", "+", "=", SIGN_QUESTIONS, 10)
MULTIPLICATION = _sums("multiplication", "times", "is", WORD_QUESTIONS, 10)

GROUPS: tuple[Group, ...] = (
    COUNTING,
    LONG_COUNTING,
    RECITALS,
    ADDITION,
    ADDITION_SIGNS,
    MULTIPLICATION,
    EXPLANATIONS,
    COMPARISONS,
)
