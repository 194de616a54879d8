from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.decision_table import CONDITIONS, Facts
from edge_tier.gateway.hints import NAMES, PREFIX
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.policy_file import MAX_FILE_BYTES, PolicyFile, read_policies
from edge_tier.gateway.request import Mode, PersonalAction, Rules
from edge_tier.gateway.screening import INJECTION
from wire.errors import ConfigError

WHOLE = b"""
[tenants]
hospital = "strict"

[policies.default]
injection = "block"
personal_kinds = { email = "mask" }

[policies.strict]
extends = "default"
privacy = "local"
residency = "eu-west"
personal_data = "restore"

[[policies.strict.content]]
name = "codenames"
words = ["bluebird"]
sides = ["input", "output"]

[[policies.strict.routes]]
name = "long batches"
when = { latency = "batch", prompt_tokens_min = 4000, findings = ["email", "iban"] }
target = "local"
only = true

[policies.loose]
extends = "strict"
privacy = "any"
routes = []
"""


def test_a_whole_file_is_read() -> None:
    found = read_policies(WHOLE)
    assert found.tenants == {"hospital": "strict"}
    assert found.policies.keys() == {"default", "strict", "loose"}
    strict = found.policies["strict"]
    assert strict.rules.name == "strict"
    assert strict.rules.injection == "block"
    assert strict.rules.personal_kinds == {"email": "mask"}
    assert strict.rules.content[0].words == ("bluebird",)
    facts = Facts(latency="batch", prompt_tokens=4000, findings=frozenset({"iban"}))
    assert strict.table.decide(facts) is strict.table.rows[0]
    assert strict.table.rows[0].only


def test_an_heir_has_what_it_does_not_say_itself_and_lists_are_not_joined() -> None:
    found = read_policies(WHOLE).policies
    loose = found["loose"]
    assert (loose.rules.privacy, loose.rules.residency) == ("any", "eu-west")
    assert loose.rules.content == found["strict"].rules.content
    assert not loose.table


def test_what_is_compiled_once_is_of_the_plain_type() -> None:
    # A subclass would be a different rule set to whatever compares or stores them.
    assert {type(policy.rules) for policy in read_policies(WHOLE).policies.values()} == {Rules}


@pytest.mark.parametrize("data", [b"", b"[policies.other]\nprivacy='local'\n", b"[tenants]\n"])
def test_there_always_is_a_default(data: bytes) -> None:
    assert read_policies(data).policies["default"].rules == Rules()
    assert PolicyFile().policies["default"].rules == Rules()


REFUSED = {
    "privacy = ": "not TOML",
    "\xff": "not TOML",
    "x = " + "[" * 5_000: "nested|not TOML",
    "#" * (MAX_FILE_BYTES + 1): "larger than",
    "[policy.a]": "no table 'policy'",
    "policies = 1": "must be tables",
    "policies.a = 1": "must be tables",
    "[policies.a]\nprivcy = 'local'": r"policies\.a\].*privcy",
    "[policies.a]\nprivacy = 'lokal'": r"policies\.a\].*lokal",
    "[policies.a]\nresidency = 'EU west'": "residency",
    "[policies.a]\npersonal_kinds = { mail = 'mask' }": "no kind 'mail'.*email",
    "[policies.a]\ninjection_threshold = 1.1": "0..1",
    "[policies.a]\ninjection_threshold = nan": "0..1",
    "[policies.a]\nextends = 'b'": "'b', which is not there",
    "[policies.a]\nextends = 1": "name of a policy",
    "[policies.a]\nextends = 'a'": "extends itself",
    "[policies.a]\nextends = 'b'\n[policies.b]\nextends = 'a'": "extends itself",
    "[[policies.a.routes]]\nname = 'r'\nonyl = true": "onyl",
    "[[policies.a.routes]]\nname = 'r'\nwhen = { latenzy = 'batch' }": "'r'.*'latenzy'",
    "[[policies.a.routes]]\nname = 'r'\nwhen = { cloud = 'yes' }": "true or false",
    "[[policies.a.routes]]\nname = 'r'\ntarget = 'worker'": "worker",
    "[[policies.a.routes]]\nwhen = {}": "name",
    "[[policies.a.content]]\nname = 'c'\nword = ['x']": "word",
    "[[policies.a.content]]\nname = 'c'\npatterns = ['(']": "'c'",
    "[[policies.a.content]]\nname = 'c'\nwords = ['']": "'c'",
    "[policies.'a b']": "1 to 64 letters",
    "[policies.a]\nregulations = ['GDPR']": "line 2: regulations",
    "[policies.a]\n\nprivacy = 'lokal'": "line 3: .*lokal",
    "[policies.b]\nshadow = 1\n[policies.a]\nextends = 'b'": "line 2: ",
    "[policies.a]\npersonal_kinds.mail = 'mask'": "no kind 'mail'",
    "[policies.a.personal_kinds]\nmail = 'mask'": "line 2: personal_kinds",
    "[[policies.a.routes]]\nname = ''": "a name has",
    '[[policies.a.routes]]\nname = "a\\tb"': "a name has",
    "[[policies.a.routes]]\nname = 'r'\n[[policies.a.routes]]\nname = 'r'": "'r' is there twice",
    "[[policies.a.routes]]\nname = 'r'\nmode = 'gate'\nonly = true": "line 2: .*'r': mode gate",
    "[[policies.a.routes]]\nname = 'r'\nmode = 'verify'\ntarget = 'cloud'": "'r': mode verify",
    "[[policies.a.routes]]\nname = 'r'\nwhen = { findings = 'mail' }": "'mail'; known: .*email",
    "[[policies.a.routes]]\nname = 'r'\nwhen = { load_min = 2, load_max = 2 }": "meets both",
    "[[policies.a.routes]]\nname = 'r'\nwhen = { wait_max_s = 1, wait_min_s = 2 }": "meets both",
    "[[policies.a.content]]\nname = 'c'": "'c' is never met",
    "[[policies.a.content]]\nname = 'c'\nwords = ['x']\nmin_hits = 2": "'c' is never met",
    "[[policies.a.content]]\nname = 'c'\nwords = ['x']\nsides = []": "'c' is never met",
    "[[policies.a.content]]\nname = 'email'\nwords = ['x']": "empty or taken",
    "[tenants]\nshop = 'gone'": "shop has no policy 'gone'",
    "[tenants]\nshop = 3": r"\[tenants\]",
    "tenants = 3": r"\[tenants\]",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_cannot_be_in_force_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){REFUSED[text]}"):
        read_policies(text.encode("latin-1"))


def test_a_row_may_name_all_that_is_found() -> None:
    read_policies(
        b"""
        [[policies.a.content]]
        name = "topic"
        words = ["x"]
        [[policies.a.routes]]
        name = "r"
        when.findings = ["topic", "personal", "email", "injection", "zero_width", "homoglyph"]
        """
    )
    assert INJECTION == "injection"  # policy_file cannot import a stage to know its name


def test_a_long_line_of_heirs_is_refused_as_that() -> None:
    heirs = [f"[policies.p{n}]\nextends = 'p{n + 1}'" for n in range(30)]
    text = "\n".join([*heirs, "[policies.p30]"])
    with pytest.raises(ConfigError, match="in a row"):
        read_policies(text.encode())


@given(st.binary(max_size=60) | st.text("[]=.'{}\n policestnard1", max_size=60).map(str.encode))
def test_any_bytes_are_policies_or_refused(data: bytes) -> None:
    said = ""
    try:
        assert "default" in read_policies(data).policies
    except ConfigError as error:
        said = error.message
    assert said.startswith("policy file") or not said


# What people read must be what is in force.

DOCUMENT = Path(__file__).parents[3] / "docs" / "policies.md"


def test_the_example_of_the_document_is_in_force_as_it_stands() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    found = read_policies(example.encode())
    assert found.tenants == {"hospital": "strict"}
    assert len(found.policies["default"].table.rows) == 3
    strict = found.policies["strict"].rules
    assert (strict.privacy, strict.injection, strict.personal_data) == ("local", "block", "restore")


@pytest.mark.parametrize(
    "names",
    [
        sorted(CONDITIONS),
        [f"{PREFIX}{name}" for name in NAMES],
        sorted(KINDS),
        get_args(PersonalAction),
        get_args(Mode),
        [name for name in Rules.__struct_fields__ if name not in ("name", "routes")],
    ],
    ids=["conditions", "hints", "kinds", "actions", "modes", "rules"],
)
def test_the_document_has_the_whole_vocabulary(names: list[str]) -> None:
    text = DOCUMENT.read_text()
    # In the text as `name`, or in the example as a key.
    shown = [name for name in names if re.search(rf"(?m)`{name}\b|^{name} = ", text)]
    assert shown == list(names)
