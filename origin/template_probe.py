"""Renders a chat template once before it is signed, in a process that may die of it.

A template comes from strangers and runs on every edge. So at publishing it is rendered with canned
conversations in a child process with limits for CPU, memory and time. There it is also checked that
the marked template (``wire.template_marks``) says what the plain one says. The parent renders
nothing.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from jinja2.exceptions import TemplateError

from wire.bundle import BundleInvalidError, ModelCard
from wire.chat_sandbox import Renderer, Sandbox, Turn, messages_of
from wire.chat_template import ChatTemplate, template_variables
from wire.errors import HeadwaterError, RequestInvalidError
from wire.specials import Piece, Specials

_SYSTEM = "You answer in few words."
_QUESTION = "What is the capital of France, and why?"
_ANSWER = "Paris.\n\nIt has been since 987."
_TURNS: tuple[Turn, ...] = (("user", _QUESTION), ("assistant", _ANSWER))
_SHORT: tuple[Turn, ...] = (("user", _QUESTION),)
_WITH_SYSTEM: tuple[Turn, ...] = (("system", _SYSTEM), *_SHORT)
_CONVERSATIONS: tuple[tuple[Turn, ...], ...] = (
    _SHORT,
    _WITH_SYSTEM,
    (*_TURNS, *_SHORT),
    (("system", _SYSTEM), *_TURNS, *_TURNS, *_SHORT),
    (("user", "  \n padded\t\n "), ("assistant", " also padded "), ("user", "\n")),
    (("user", "\u3000Ünïcode ſ\x85"), ("assistant", "\xa0Straße\u2028"), ("user", "你好 🙂")),
    (("user", ""),),
    (*_TURNS, ("tool", "21 °C"), *_SHORT),
    (*_TURNS * 64, ("user", _QUESTION * 256)),
)
_BARE_VARIABLES: Mapping[str, str | bool] = {
    "bos_token": "",
    "eos_token": "",
    "add_generation_prompt": True,
}
"""What a template finds when llama.cpp tries out what it can do (``caps.cpp``)."""
_MAX_REASON = 500
"""Characters: a template may have a hand in what is said of it."""


class TemplateRefusedError(HeadwaterError):
    """A chat template that must not be signed."""

    status = 422
    code = "template_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """What the rendering of the canned conversations may cost."""

    cpu_s: int = 2
    wall_s: float = 30.0
    memory_bytes: int = 512 * 1024 * 1024
    template_bytes: int = 256 * 1024
    rendered_bytes: int = 4 * 1024 * 1024


class TemplateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a template that may be signed."""

    system_role: bool
    doubts: tuple[str, ...] = ()
    """Why the edge must leave this template to the engine; none: it need not."""
    asks_thinking: bool = False
    """Whether the prompt may depend on ``enable_thinking``, which the engine decides."""
    conversations: tuple[tuple[tuple[Turn, ...], str], ...] = ()
    """The conversations that the template can show, and the prompts."""


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the child says: a report or the reason for a refusal."""

    report: TemplateReport | None = None
    refusal: str = ""


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    card: ModelCard
    cpu_s: int
    memory_bytes: int
    rendered_bytes: int


def probe_template(card: ModelCard, config: ProbeConfig | None = None) -> TemplateReport:
    """Render the card's template in a child process.

    Raises:
        TemplateRefusedError: it does not compile, cannot show a question, reaches for what it must
            not have, or costs more than the limits.
    """
    config = config or ProbeConfig()
    size = len(card.chat_template.encode())
    if size > config.template_bytes:
        raise TemplateRefusedError(
            f"the chat template is {size} B long; the limit is {config.template_bytes} B"
        )
    task = _Task(
        card=card,
        cpu_s=config.cpu_s,
        memory_bytes=config.memory_bytes,
        rendered_bytes=config.rendered_bytes,
    )
    verdict = _verdict_of(_run_child(msgspec.json.encode(task), config.wall_s), config)
    if verdict.report is None:
        raise TemplateRefusedError(f"the chat template is refused: {verdict.refusal}")
    return verdict.report


def _run_child(task: bytes, wall_s: float) -> subprocess.CompletedProcess[bytes]:
    """The child has no environment but the way to this package, so no secret is in its reach."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        return subprocess.run(
            [sys.executable, "-m", "origin.template_probe"],
            input=task,
            capture_output=True,
            timeout=wall_s,
            env={"PYTHONPATH": path, "TZ": os.environ.get("TZ", "")},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateRefusedError(
            f"the chat template is refused: it ran longer than {wall_s} s"
        ) from error


def _verdict_of(child: subprocess.CompletedProcess[bytes], config: ProbeConfig) -> _Verdict:
    if child.returncode < 0:
        return _Verdict(refusal=f"it used more than {config.cpu_s} s of CPU, or crashed")
    try:
        return msgspec.json.decode(child.stdout, type=_Verdict)
    except msgspec.DecodeError:
        return _Verdict(refusal=f"its process ended with status {child.returncode}")


def main() -> None:
    """The child: a task from standard input, limits, a verdict to standard output."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (task.cpu_s, task.cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (task.memory_bytes, task.memory_bytes))
    try:
        verdict = _Verdict(report=examine(task.card, task.rendered_bytes))
    except (HeadwaterError, TemplateError) as error:
        verdict = _Verdict(refusal=str(error)[:_MAX_REASON])
    except MemoryError:
        verdict = _Verdict(refusal=f"it needs more than {task.memory_bytes} B of memory")
    sys.stdout.buffer.write(msgspec.json.encode(verdict))


def examine(card: ModelCard, rendered_bytes: int) -> TemplateReport:
    """What the child does under its limits.

    Raises:
        BundleInvalidError, TemplateError: the template does not compile, or is hostile.
        RequestInvalidError: it cannot show a single question.
    """
    sandbox = Sandbox(datetime.now)
    tree, _ = sandbox.read(card.chat_template)
    plain = Renderer(sandbox, tree, template_variables(card))
    bare = Renderer(sandbox, tree, _BARE_VARIABLES, dated=False)
    card = msgspec.structs.replace(card, system_role=_shows_system(bare))
    marked = ChatTemplate(card, datetime.now)
    doubts = list(marked.reasons)
    shown: list[tuple[tuple[Turn, ...], str]] = []
    left = rendered_bytes
    for turns in _CONVERSATIONS:
        prompt = _shown(plain, turns, card.system_role, needed=turns is _SHORT)
        if prompt is None:
            continue
        left -= len(prompt)
        if left < 0:
            raise BundleInvalidError(f"its prompts are longer than {rendered_bytes} B")
        shown.append((turns, prompt))
        if not doubts and not _agree(card, prompt, marked.render(turns)):
            doubts.append("the chat template's control tokens could not be told from content")
    return TemplateReport(
        system_role=card.system_role,
        doubts=tuple(doubts),
        asks_thinking="enable_thinking" in plain.asked,
        conversations=tuple(shown),
    )


def _shows_system(bare: Renderer) -> bool:
    """Whether llama.cpp will hand system messages to the template. It asks as little prepared."""
    prompt = _shown(bare, _WITH_SYSTEM, system_role=True, needed=False)
    return prompt is not None and _SYSTEM in prompt


def _shown(
    plain: Renderer, turns: Sequence[Turn], system_role: bool, *, needed: bool
) -> str | None:
    """The prompt, or None where the template refuses a conversation that it may refuse."""
    try:
        return plain.render(messages_of(turns, system_role=system_role))
    except RequestInvalidError:
        if needed:
            raise
        return None


def _agree(card: ModelCard, prompt: str, pieces: Sequence[Piece]) -> bool:
    """Whether the marked rendering is the plain prompt, with the control tokens where llama.cpp
    finds them. The canned contents hold none.
    """
    found = Specials(card.control_literals).partition(prompt)
    if card.add_bos and card.bos and found[:1] == [card.bos.id]:
        found = found[1:]
    if card.add_eos and card.eos and found[-1:] == [card.eos.id]:
        found = found[:-1]
    return found == list(pieces)


if __name__ == "__main__":
    main()
