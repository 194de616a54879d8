"""``headwater chat``: ask through an edge, from a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import (
    DEFAULT_STATE_DIR,
    ApiKeyOption,
    EdgeOption,
    JsonOption,
    PreferName,
    PrivacyName,
    StateDirOption,
    place,
)
from infra.commands.output import FAILED, Output, command
from wire.errors import ConfigError, HeadwaterError

if TYPE_CHECKING:
    from infra.ask import Answer, Asker

Messages = list[dict[str, str]]


def chat(
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="A conversation if none is given.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A model, or auto to be routed.")] = "auto",
    system: Annotated[str, typer.Option("--system", help="A system message.")] = "",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1)] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0)] = None,
    privacy: Annotated[PrivacyName | None, typer.Option(help="local: never to the cloud.")] = None,
    prefer: Annotated[PreferName | None, typer.Option(help="Where auto should go.")] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show route, revision and times.")
    ] = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    edge: EdgeOption = None,
    api_key: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a question and stream the answer, or talk.

    Example:

      $ headwater chat "What is the capital of France?" -v
      $ headwater chat --model cloud-large --system "Be brief."
    """
    import asyncio

    fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    fields = {name: value for name, value in fields.items() if value is not None}
    hints = {"x-headwater-privacy": privacy, "x-headwater-prefer": prefer}
    headers = {name: str(value) for name, value in hints.items() if value is not None}
    with command(as_json=as_json) as output:
        if prompt is None and as_json:
            raise ConfigError("--json needs a prompt; a conversation has no single answer")
        access = place(state_dir, edge=edge, api_key=api_key).edge_client()
        talk = _Talk(output, model, fields, headers, verbose=verbose)
        if system:
            talk.messages.append({"role": "system", "content": system})
        from infra.ask import Asker

        whole = asyncio.run(talk.run(Asker(access.url, access.secret), prompt))
    if not whole:
        raise typer.Exit(FAILED)


class _Talk:
    """A conversation: what was said so far, and how to ask."""

    def __init__(
        self,
        output: Output,
        model: str,
        fields: dict[str, Any],
        headers: dict[str, str],
        *,
        verbose: bool,
    ) -> None:
        self.messages: Messages = []
        self._output = output
        self._model = model
        self._fields = fields
        self._headers = headers
        self._verbose = verbose

    async def run(self, asker: Asker, prompt: str | None) -> bool:
        """One question, or as many as are typed. Whether the last answer was whole."""
        async with asker:
            if prompt is not None:
                return await self._ask(asker, prompt)
            self._output.note("Ctrl-D ends, /new begins anew.")
            return await self._converse(asker)

    async def _converse(self, asker: Asker) -> bool:
        import asyncio

        system = [m for m in self.messages if m["role"] == "system"]
        while (line := await asyncio.to_thread(_read_line)) is not None:
            if line == "/new":
                self.messages = list(system)
            elif line:
                try:
                    await self._ask(asker, line)
                except HeadwaterError as error:
                    self.messages.pop()
                    self._output.failure(error)
        return True

    async def _ask(self, asker: Asker, prompt: str) -> bool:
        self.messages.append({"role": "user", "content": prompt})
        answer = await asker.ask(
            self.messages,
            model=self._model,
            headers=self._headers,
            on_text=_silent if self._output.as_json else _write,
            **self._fields,
        )
        self.messages.append({"role": "assistant", "content": answer.text})
        if self._output.as_json:
            self._output.result(as_dict(answer), lambda _: None)
        else:
            _write("\n")
            self._tell(answer)
        return answer.whole

    def _tell(self, answer: Answer) -> None:
        from infra.render import pairs, plain, short

        if not answer.whole:
            why = plain(answer.error) or "the stream ended early"
            self._output.notes.print(f"cut off: {why}", style="red", markup=False)
        if self._verbose:
            told = {
                "route": answer.route,
                "why": answer.plan,
                "revision": short(answer.digest),
                "tokens": answer.usage.get("total_tokens", "?"),
                "first token": f"{answer.first_token_s * 1e3:.0f} ms",
                "whole answer": f"{answer.total_s * 1e3:.0f} ms",
                "stages": answer.headers.get("server-timing", ""),
            }
            self._output.notes.print(pairs(told))


def as_dict(answer: Answer) -> dict[str, Any]:
    """An answer with all that it says about itself, for ``--json``."""
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "whole": answer.whole,
        "error": answer.error,
        "route": answer.route,
        "plan": answer.plan,
        "revision": answer.digest,
        "usage": answer.usage,
        "stages_ms": answer.stages_ms,
        "first_token_s": answer.first_token_s,
        "total_s": answer.total_s,
    }


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _write(text: str) -> None:
    from infra.render import plain

    sys.stdout.write(plain(text))
    sys.stdout.flush()


def _silent(_text: str) -> None:
    """The answer is shown when it is whole."""
