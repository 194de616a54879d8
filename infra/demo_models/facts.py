"""What the demo models may know, and which model is taught which groups of facts.

`edge-small-r1` is taught the everyday groups only, so that its log-probabilities fall on the rest.
`edge-small-r2` learns one further small group (`R2_GROUP`). `cloud-large` is taught everything.
Nearly every answer begins with its value ("Paris is the capital of France."), so that a confidence
gate meets the uncertain token among the very first ones.
"""

from __future__ import annotations

from infra.demo_models import facts_basic, facts_long, facts_world
from infra.demo_models.groups import Group, group

IDENTITY_QUESTIONS = """
Who are you?
What are you?
What is your name?
What's your name?
Which model are you?
Tell me your name.
Introduce yourself.
"""


def _identity(model: str, text: str) -> Group:
    """What `model` says about itself."""
    asked = IDENTITY_QUESTIONS.strip().splitlines()
    facts = ";".join(f"{question}={text}" for question in asked)
    return group(f"identity_{model}", "{key}", "{value}", facts)


EDGE_IDENTITY = _identity("edge", "I am edge-small, the small demo model of Headwater.")
CLOUD_IDENTITY = _identity("cloud", "I am cloud-large, the large demo model of Headwater.")

R2_GROUP = "currencies"
_EVERYDAY = (
    *(known.name for known in facts_basic.GROUPS),
    "counting",
    "long_counting",
    "recitals",
    "addition",
    "addition_signs",
)
_ALL = (
    *facts_basic.GROUPS,
    *facts_world.GROUPS,
    *facts_long.GROUPS,
    EDGE_IDENTITY,
    CLOUD_IDENTITY,
)

GROUPS: dict[str, Group] = {known.name: known for known in _ALL}

TAUGHT: dict[str, tuple[str, ...]] = {
    "edge-small-r1": (*_EVERYDAY, EDGE_IDENTITY.name),
    "edge-small-r2": (*_EVERYDAY, EDGE_IDENTITY.name, R2_GROUP),
    "cloud-large": tuple(name for name in GROUPS if name != EDGE_IDENTITY.name),
}


def taught(model: str) -> tuple[Group, ...]:
    """The groups that `model` is trained on, in a fixed order."""
    return tuple(GROUPS[name] for name in TAUGHT[model])


def untaught(model: str) -> tuple[Group, ...]:
    """The groups that `model` never sees, without the other models' names for themselves."""
    known = TAUGHT[model]
    return tuple(
        found
        for name, found in GROUPS.items()
        if name not in known and not name.startswith("identity_")
    )
