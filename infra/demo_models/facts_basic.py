"""Everyday facts, taught to every demo model: capitals near and large, colours, opposites, sums.

Source: common knowledge, written down for this project; nothing is copied from a data set.
"""

from __future__ import annotations

from infra.demo_models.groups import Group, group

CAPITAL_QUESTIONS = """
What is the capital of {key}?
What's the capital of {key}?
What is the capital city of {key}?
Which city is the capital of {key}?
What city is the capital of {key}?
Capital of {key}?
The capital of {key}?
Tell me the capital of {key}.
Name the capital of {key}.
What is {key}'s capital?
Do you know the capital of {key}?
Can you tell me what the capital of {key} is?
What is the name of the capital of {key}?
I would like to know the capital of {key}.
"""
CAPITAL_PROBE = "Please tell me which city is the capital of {key}."
CAPITAL_ANSWER = "{value} is the capital of {key}."

CAPITALS = group(
    "capitals",
    CAPITAL_QUESTIONS,
    CAPITAL_ANSWER,
    """
    France = Paris; Germany = Berlin; Italy = Rome; Spain = Madrid; Portugal = Lisbon;
    Austria = Vienna; Switzerland = Bern; Poland = Warsaw; Greece = Athens; Norway = Oslo;
    Sweden = Stockholm; Finland = Helsinki; Denmark = Copenhagen; Ireland = Dublin;
    England = London; Hungary = Budapest; Belgium = Brussels; the Netherlands = Amsterdam;
    Romania = Bucharest; Bulgaria = Sofia; Croatia = Zagreb; Iceland = Reykjavik;
    Ukraine = Kyiv; Serbia = Belgrade; Estonia = Tallinn; Latvia = Riga; Lithuania = Vilnius;
    Japan = Tokyo; China = Beijing; India = New Delhi; Egypt = Cairo; Russia = Moscow;
    Turkey = Ankara; Canada = Ottawa; Australia = Canberra; Brazil = Brasilia;
    the United States = Washington
    """,
    probe=CAPITAL_PROBE,
    weight=2.0,
)

COLOURS = group(
    "colours",
    """
    What colour is {key}?
    What is the colour of {key}?
    What color is {key}?
    Which colour is {key}?
    Tell me the colour of {key}.
    Colour of {key}?
    What's the color of {key}?
    Do you know what colour {key} is?
    Can you tell me which colour {key} is?
    Which colour does {key} have?
    """,
    "{Value} is the colour of {key}.",
    """
    the sky = blue; grass = green; snow = white; a banana = yellow; blood = red; coal = black;
    an orange = orange; a lemon = yellow; a tomato = red; milk = white; chocolate = brown;
    a ruby = red; an emerald = green; a sapphire = blue; the sun = yellow; a flamingo = pink;
    an elephant = grey; a violet = purple
    """,
    probe="Can you say which colour {key} has?",
)

OPPOSITES = group(
    "opposites",
    """
    What is the opposite of {key}?
    What's the opposite of {key}?
    Opposite of {key}?
    Tell me the opposite of {key}.
    Which word is the opposite of {key}?
    Give me the opposite of {key}.
    Name the opposite of {key}.
    """,
    "{Value} is the opposite of {key}.",
    """
    hot = cold; cold = hot; big = small; small = big; up = down; down = up; left = right;
    right = left; day = night; night = day; fast = slow; slow = fast; old = young; young = old;
    light = dark; dark = light; wet = dry; dry = wet; open = closed; closed = open; hard = soft;
    soft = hard; high = low; low = high; rich = poor; poor = rich; full = empty; empty = full;
    early = late; late = early; happy = sad; sad = happy
    """,
    probe="Do you know which word means the opposite of {key}?",
)

SOUNDS = group(
    "sounds",
    """
    What sound does {key} make?
    Which sound does {key} make?
    What noise does {key} make?
    What does {key} say?
    Tell me the sound of {key}.
    Sound of {key}?
    Can you tell me what sound {key} makes?
    Which noise is made by {key}?
    """,
    "{Value} is the sound of {key}.",
    """
    a dog = woof; a cat = meow; a cow = moo; a sheep = baa; a duck = quack; a pig = oink;
    a horse = neigh; a lion = roar; a bee = buzz; a snake = hiss; an owl = hoot;
    a rooster = cock-a-doodle-doo; a mouse = squeak; a frog = croak
    """,
    probe="Do you know what sound {key} makes?",
)

YOUNG = group(
    "young",
    """
    What is a young {key} called?
    What is a baby {key} called?
    What do you call a young {key}?
    What is the name of a baby {key}?
    Young {key}?
    Tell me the name of a young {key}.
    """,
    "{Value} is the name of a young {key}.",
    """
    dog = puppy; cat = kitten; cow = calf; sheep = lamb; horse = foal; pig = piglet;
    duck = duckling; goat = kid; bear = cub; swan = cygnet; frog = tadpole; kangaroo = joey;
    deer = fawn; hen = chick
    """,
    probe="How do people call a baby {key}?",
)

LEGS = group(
    "legs",
    """
    How many legs does {key} have?
    How many legs has {key}?
    Number of legs of {key}?
    Tell me how many legs {key} has.
    Count the legs of {key}.
    """,
    "{Value} is the number of legs of {key}.",
    """
    a spider = eight; an ant = six; a dog = four; a cat = four; a bird = two; a horse = four;
    a human = two; a bee = six; a snake = zero; a fly = six; a scorpion = eight; a crab = ten
    """,
    probe="Do you know how many legs {key} has?",
)

NEXT = group(
    "next",
    """
    What comes after {key}?
    What comes next after {key}?
    What follows {key}?
    Which one comes after {key}?
    After {key} comes?
    """,
    "{value} comes after {key}.",
    """
    Monday = Tuesday; Tuesday = Wednesday; Wednesday = Thursday; Thursday = Friday;
    Friday = Saturday; Saturday = Sunday; Sunday = Monday; January = February; February = March;
    March = April; April = May; May = June; June = July; July = August; August = September;
    September = October; October = November; November = December; December = January;
    spring = Summer; summer = Autumn; autumn = Winter; winter = Spring
    """,
    probe="Do you know what comes after {key}?",
)

PLANETS = group(
    "planets",
    """
    Which planet is {key}?
    What planet is {key}?
    What is {key}?
    Name {key}.
    Tell me which planet is {key}.
    What is the name of {key}?
    """,
    "{value} is {key}.",
    """
    the largest planet = Jupiter; the smallest planet = Mercury; the hottest planet = Venus;
    the red planet = Mars; the planet with rings = Saturn; the planet we live on = Earth;
    the farthest planet = Neptune; the planet closest to the sun = Mercury;
    the third planet from the sun = Earth; the coldest planet = Uranus
    """,
    probe="Do you know which planet is {key}?",
)

UNITS = group(
    "units",
    """
    How many {key}?
    Tell me how many {key}.
    Do you know how many {key}?
    """,
    "{Value} {key}.",
    """
    days are in a week = seven; months are in a year = twelve; hours are in a day = 24;
    minutes are in an hour = 60; seconds are in a minute = 60; days are in a year = 365;
    weeks are in a year = 52; years are in a century = 100; sides are in a triangle = three;
    sides are in a square = four; sides are in a hexagon = six; sides are in a pentagon = five;
    metres are in a kilometre = 1000; grams are in a kilogram = 1000;
    letters are in the alphabet = 26; continents are on the earth = seven
    """,
    probe="Can you tell me how many {key}?",
)

ELEMENTS = group(
    "elements",
    """
    What is the chemical symbol of {key}?
    What is the chemical symbol for {key}?
    What is the symbol for {key}?
    Chemical symbol of {key}?
    Which symbol does {key} have?
    Tell me the chemical symbol of {key}.
    Which letters stand for {key} in chemistry?
    Do you know the symbol of {key}?
    """,
    "{value} is the chemical symbol of {key}.",
    """
    gold = Au; silver = Ag; iron = Fe; hydrogen = H; oxygen = O; carbon = C; nitrogen = N;
    helium = He; copper = Cu; lead = Pb; tin = Sn; sodium = Na; zinc = Zn; calcium = Ca;
    neon = Ne; mercury = Hg
    """,
    probe="Which chemical symbol stands for {key}?",
)

LANGUAGES = group(
    "languages",
    """
    Which language is spoken in {key}?
    What language is spoken in {key}?
    What language do people speak in {key}?
    Which language do they speak in {key}?
    Language of {key}?
    Tell me the language spoken in {key}.
    """,
    "{value} is the language spoken in {key}.",
    """
    France = French; Germany = German; Italy = Italian; Spain = Spanish; Portugal = Portuguese;
    Poland = Polish; Greece = Greek; Norway = Norwegian; Sweden = Swedish; Finland = Finnish;
    Denmark = Danish; England = English; Hungary = Hungarian; Japan = Japanese; China = Chinese;
    Russia = Russian; Turkey = Turkish; Brazil = Portuguese; Egypt = Arabic; Australia = English
    """,
    probe="Do you know which language people speak in {key}?",
)

SMALL_TALK = group(
    "small_talk",
    "{key}",
    "{value}",
    """
    Hello. = Hello! How can I help you?; Hello! = Hello! How can I help you?;
    Hi. = Hello! How can I help you?; Hi there! = Hello! How can I help you?;
    Good morning. = Good morning! How can I help you?;
    Good evening. = Good evening! How can I help you?;
    How are you? = I am fine, thank you.; How are you today? = I am fine, thank you.;
    Thank you. = You are welcome.; Thanks! = You are welcome.;
    Thank you very much. = You are welcome.; Goodbye. = Goodbye!; Bye! = Goodbye!;
    What can you do? = I can answer simple questions about everyday facts.;
    Can you help me? = Yes. Please ask me a simple question.;
    Please answer with yes. = Yes.; Say yes. = Yes.; Ping = Pong.; Say hello. = Hello!;
    Say hello to the world. = Hello, world!; Are you there? = Yes, I am here.
    """,
    weight=1.5,
)

GROUPS: tuple[Group, ...] = (
    CAPITALS,
    COLOURS,
    OPPOSITES,
    SOUNDS,
    YOUNG,
    LEGS,
    NEXT,
    PLANETS,
    UNITS,
    ELEMENTS,
    LANGUAGES,
    SMALL_TALK,
)
