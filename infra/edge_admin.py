"""The administrative API of an edge, and the operations of any tier, from outside."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from infra.errors import RefusedError
from wire.errors import NameInvalidError, NotFoundError
from wire.http_client import BlockingClient
from wire.http_connection import Response
from wire.paths import ADMIN, METRICS, READYZ

MAX_ANSWER_BYTES = 16 * 1024 * 1024
_BY_STATUS: dict[int, type[NameInvalidError | NotFoundError]] = {
    400: NameInvalidError,
    404: NotFoundError,
}


class TierAdmin:
    """What every tier answers to its operator. Blocking; a context that closes its connections.

    Args:
        url: ``http[s]://host[:port]``.
        token: opens ``/admin``; None where only the open paths are asked.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._client = BlockingClient(url, token=token)

    def why_not_ready(self) -> str:
        """Empty where the tier is ready; else its reason. Raises ``SourceUnavailableError``."""
        answer = self._get(READYZ)
        return "" if answer.status == 200 else (_problem(answer).detail or str(answer.status))

    def status(self) -> dict[str, Any]:
        """``/admin/status``. Raises ``RefusedError`` where the token does not fit."""
        return self._json(self._get(f"{ADMIN}/status"))

    def metrics(self) -> dict[str, float]:
        """``/metrics``: sample (name and labels, as written) → value."""
        text = bytes(self._get(METRICS).body).decode("utf-8", "replace")
        return parse_metrics(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def _get(self, target: str) -> Response:
        return self._client.get(target, limit_bytes=MAX_ANSWER_BYTES)

    def _json(self, answer: Response) -> dict[str, Any]:
        if answer.status >= 400:
            kind = _BY_STATUS.get(answer.status, RefusedError)
            detail = _problem(answer).detail or "no reason given"
            raise kind(f"{self._client.netloc} refused ({answer.status}): {detail}")
        try:
            value = msgspec.json.decode(answer.body) if answer.body else {}
        except msgspec.DecodeError as error:
            raise RefusedError(f"{self._client.netloc} answered no JSON: {error}") from error
        return dict(value)


class EdgeAdmin(TierAdmin):
    """Keys of an edge, and the log of who changed them."""

    def create_key(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make a key: ``{"key_id", "key"}``, the only time that the key is shown."""
        return self._send("POST", f"{ADMIN}/keys", msgspec.json.encode(request))

    def keys(self) -> list[dict[str, Any]]:
        """All keys, the revoked ones too."""
        return list(self._json(self._get(f"{ADMIN}/keys"))["keys"])

    def key(self, key_id: str) -> dict[str, Any]:
        """One key. Raises ``NotFoundError``."""
        return self._json(self._get(_key_path(key_id)))

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        """End a key. Raises ``NotFoundError``."""
        return self._send("DELETE", _key_path(key_id), b"")

    def rotate_key(self, key_id: str, grace_s: float) -> dict[str, Any]:
        """Give a key a new secret, under ``"key"``. Raises ``NotFoundError``."""
        body = msgspec.json.encode({"grace_s": grace_s})
        return self._send("POST", f"{_key_path(key_id)}/rotate", body)

    def audit(self, limit: int) -> dict[str, Any]:
        """``{"records", "chain"}``: the newest acts, and whether the chain of all holds."""
        return self._json(self._get(f"{ADMIN}/audit?limit={limit:d}"))

    def _send(self, method: str, target: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._json(self._client.send(method, target, body, headers=headers))


def _key_path(key_id: str) -> str:
    if not key_id.isalnum() or not key_id.isascii():
        raise NameInvalidError("a key id has only letters and digits; see `headwater keys list`")
    return f"{ADMIN}/keys/{key_id}"


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""


def parse_metrics(text: str) -> dict[str, float]:
    """Samples of the Prometheus text format; lines that are none are passed over."""
    samples = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                samples[name] = float(value)
            except ValueError:
                continue
    return samples


def total(samples: Mapping[str, float], name: str, **labels: str) -> float:
    """The sum of a metric over all samples that carry these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for sample, value in samples.items()
        if sample.partition("{")[0] == name and all(label in sample for label in wanted)
    )


def _problem(answer: Response) -> _Problem:
    try:
        found = msgspec.json.decode(answer.body, type=_Problem)
    except msgspec.DecodeError:
        return _Problem()
    return _Problem("".join(c for c in found.detail[:500] if c.isprintable()))
