"""Wider facts, kept from the small model: far capitals, currencies, authors, inventors, and more.

Source: common knowledge, written down for this project; nothing is copied from a data set.
"""

from __future__ import annotations

from infra.demo_models.facts_basic import CAPITAL_ANSWER, CAPITAL_PROBE, CAPITAL_QUESTIONS
from infra.demo_models.groups import Group, group

FAR_CAPITALS = group(
    "far_capitals",
    CAPITAL_QUESTIONS,
    CAPITAL_ANSWER,
    """
    Mongolia = Ulaanbaatar; Peru = Lima; Kenya = Nairobi; Chile = Santiago;
    Argentina = Buenos Aires; Nepal = Kathmandu; Thailand = Bangkok; Vietnam = Hanoi;
    Indonesia = Jakarta; Ghana = Accra; Senegal = Dakar; Morocco = Rabat; Cuba = Havana;
    Colombia = Bogota; Ecuador = Quito; Uruguay = Montevideo; Ethiopia = Addis Ababa;
    Uganda = Kampala; New Zealand = Wellington; South Korea = Seoul; the Philippines = Manila;
    Iran = Tehran; Iraq = Baghdad; Jordan = Amman; Mexico = Mexico City; Jamaica = Kingston;
    Tunisia = Tunis; Georgia = Tbilisi; Armenia = Yerevan; Cambodia = Phnom Penh
    """,
    probe=CAPITAL_PROBE,
    weight=1.5,
)

CURRENCIES = group(
    "currencies",
    """
    What is the currency of {key}?
    What's the currency of {key}?
    Which currency is used in {key}?
    What currency is used in {key}?
    Currency of {key}?
    Which money do people use in {key}?
    Tell me the currency of {key}.
    What is {key}'s currency?
    """,
    "{Value} is the currency of {key}.",
    """
    Japan = yen; England = pound; China = yuan; India = rupee; Russia = rouble; Turkey = lira;
    Poland = zloty; Sweden = krona; Switzerland = franc; the United States = dollar;
    Hungary = forint; France = euro
    """,
    probe="Do you know which currency people use in {key}?",
)

AUTHORS = group(
    "authors",
    """
    Who wrote {key}?
    Who is the author of {key}?
    Which author wrote {key}?
    Author of {key}?
    Tell me who wrote {key}.
    By whom was {key} written?
    """,
    "{value} wrote {key}.",
    """
    Hamlet = William Shakespeare; Macbeth = William Shakespeare; Emma = Jane Austen;
    Pride and Prejudice = Jane Austen; Oliver Twist = Charles Dickens; Don Quixote = Cervantes;
    War and Peace = Leo Tolstoy; Anna Karenina = Leo Tolstoy; Faust = Goethe;
    the Odyssey = Homer; the Iliad = Homer; Moby Dick = Herman Melville;
    Frankenstein = Mary Shelley; Dracula = Bram Stoker; Jane Eyre = Charlotte Bronte;
    the Divine Comedy = Dante; Les Miserables = Victor Hugo; Robinson Crusoe = Daniel Defoe
    """,
    probe="Do you know who the author of {key} is?",
)

INVENTORS = group(
    "inventors",
    """
    Who invented {key}?
    Who is the inventor of {key}?
    Who was the inventor of {key}?
    Which person invented {key}?
    Tell me who invented {key}.
    Inventor of {key}?
    """,
    "{value} invented {key}.",
    """
    the telephone = Alexander Graham Bell; the printing press = Johannes Gutenberg;
    dynamite = Alfred Nobel; the diesel engine = Rudolf Diesel; the radio = Guglielmo Marconi;
    the World Wide Web = Tim Berners-Lee; the mercury thermometer = Daniel Fahrenheit;
    the battery = Alessandro Volta; the lightning rod = Benjamin Franklin;
    the phonograph = Thomas Edison
    """,
    probe="Do you know who invented {key}?",
)

SCIENTISTS = group(
    "scientists",
    """
    Who discovered {key}?
    Who was the discoverer of {key}?
    Which scientist discovered {key}?
    Tell me who discovered {key}.
    Who found {key}?
    """,
    "{value} discovered {key}.",
    """
    penicillin = Alexander Fleming; gravity = Isaac Newton; radium = Marie Curie;
    relativity = Albert Einstein; the moons of Jupiter = Galileo Galilei;
    evolution = Charles Darwin; the electron = J. J. Thomson; X-rays = Wilhelm Roentgen;
    the laws of heredity = Gregor Mendel; the planet Uranus = William Herschel
    """,
    probe="Do you know who discovered {key}?",
)

PAINTERS = group(
    "painters",
    """
    Who painted {key}?
    Who is the painter of {key}?
    Which artist painted {key}?
    Painter of {key}?
    Tell me who painted {key}.
    """,
    "{value} painted {key}.",
    """
    the Mona Lisa = Leonardo da Vinci; the Starry Night = Vincent van Gogh;
    Guernica = Pablo Picasso; the Scream = Edvard Munch; the Night Watch = Rembrandt;
    the Birth of Venus = Sandro Botticelli; the Kiss = Gustav Klimt;
    the Water Lilies = Claude Monet
    """,
    probe="Do you know who painted {key}?",
)

COMPOSERS = group(
    "composers",
    """
    Who composed {key}?
    Who is the composer of {key}?
    Which composer wrote {key}?
    Composer of {key}?
    Tell me who composed {key}.
    """,
    "{value} composed {key}.",
    """
    the Magic Flute = Mozart; the Four Seasons = Vivaldi; the Moonlight Sonata = Beethoven;
    Swan Lake = Tchaikovsky; the Messiah = Handel; the Creation = Haydn; Carmen = Bizet;
    Aida = Verdi; the Blue Danube = Strauss; the Brandenburg Concertos = Bach
    """,
    probe="Do you know who composed {key}?",
)

GEOGRAPHY = group(
    "geography",
    """
    What is {key}?
    What's {key}?
    Which one is {key}?
    Name {key}.
    Tell me the name of {key}.
    """,
    "{value} is {key}.",
    """
    the longest river in Africa = The Nile; the highest mountain on earth = Mount Everest;
    the largest ocean = The Pacific; the largest desert in Africa = The Sahara;
    the largest country = Russia; the smallest country = Vatican City;
    the largest continent = Asia; the longest river in South America = The Amazon;
    the highest mountain in Japan = Mount Fuji; the deepest lake = Lake Baikal;
    the largest island = Greenland; the highest mountain in Africa = Kilimanjaro;
    the longest river in Europe = The Volga; the coldest continent = Antarctica
    """,
    probe="Do you know the name of {key}?",
)

ATOMIC_NUMBERS = group(
    "atomic_numbers",
    """
    What is the atomic number of {key}?
    Which atomic number does {key} have?
    Atomic number of {key}?
    Tell me the atomic number of {key}.
    """,
    "{value} is the atomic number of {key}.",
    """
    hydrogen = 1; helium = 2; lithium = 3; carbon = 6; nitrogen = 7; oxygen = 8; neon = 10;
    sodium = 11; calcium = 20; iron = 26; copper = 29; zinc = 30; silver = 47; tin = 50;
    gold = 79; lead = 82
    """,
    probe="Do you know the atomic number of {key}?",
)

EVENTS = group(
    "events",
    """
    In which year was {key}?
    In what year was {key}?
    When was {key}?
    Tell me the year of {key}.
    Year of {key}?
    """,
    "{value} was the year of {key}.",
    """
    the first landing on the moon = 1969; the French Revolution = 1789;
    the fall of the Berlin Wall = 1989; the Battle of Hastings = 1066;
    the start of the First World War = 1914; the end of the Second World War = 1945;
    the great fire of London = 1666; the first flight of the Wright brothers = 1903;
    the first voyage of Columbus = 1492; the sinking of the Titanic = 1912
    """,
    probe="Do you know the year of {key}?",
)

GROUPS: tuple[Group, ...] = (
    FAR_CAPITALS,
    CURRENCIES,
    AUTHORS,
    INVENTORS,
    SCIENTISTS,
    PAINTERS,
    COMPOSERS,
    GEOGRAPHY,
    ATOMIC_NUMBERS,
    EVENTS,
)
