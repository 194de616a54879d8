"""EdgeGrid: how requests to Akamai's APIs are signed (EG1-HMAC-SHA256). Pure, but for the reader.

https://techdocs.akamai.com/developer/docs/edgegrid: a key is made of the client secret and the
time; it signs method, scheme, host, target, a hash of the body, and the header's own beginning. So
nothing of a request can be replaced, and it is good for about thirty seconds. Akamai's package for
Python is made for another HTTP client and writes its signing key into the debug log, so the tests
alone use it, as the judge of this file.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from wire.errors import ConfigError
from wire.http_server import read_token

ALGORITHM = "EG1-HMAC-SHA256"
MAX_SIGNED_BYTES = 131_072
"""Of a body; what follows is not signed. The default of Akamai's clients."""
_SECRETS = ("client_secret", "client_token", "access_token")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SECRET = re.compile(r"[\x21-\x3a\x3c-\x7e]{1,512}")
"""Printable, without spaces, and no semicolon, which would end the field in the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A section of an ``.edgerc`` file."""

    host: str
    client_token: str = field(repr=False)
    access_token: str = field(repr=False)
    client_secret: str = field(repr=False)


def read_edgerc(file: Path, section: str) -> Credentials:
    """A section of an ``.edgerc`` file, which nobody else may read.

    Raises:
        ConfigError: missing, readable by others, or without what is needed; never says a value.
    """
    text = read_token(file)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The library's own words repeat the line.
        raise ConfigError(f"{file} is no .edgerc file: sections with `name = value`") from None
    if section not in parser:
        known = ", ".join(parser.sections()) or "none"
        raise ConfigError(f"{file} has no section [{section}]; it has: {known}")
    values = {name: parser[section].get(name, "").strip() for name in ("host", *_SECRETS)}
    host = values["host"].removeprefix("https://").rstrip("/")
    bad = [name for name in _SECRETS if not _SECRET.fullmatch(values[name])]
    if not _HOST.fullmatch(host):
        bad.append("host")
    if bad:
        raise ConfigError(f"{file} [{section}]: {', '.join(bad)}: missing, or not of its form")
    return Credentials(host=host.lower(), **{name: values[name] for name in _SECRETS})


def timestamp(now_s: float) -> str:
    """A time (seconds since 1970) as the signature tells it."""
    return time.strftime("%Y%m%dT%H:%M:%S+0000", time.gmtime(now_s))


def authorization(
    credentials: Credentials,
    *,
    method: str,
    scheme: str,
    host: str,
    target: str,
    body: bytes,
    at: str,
    nonce: str,
) -> str:
    """The ``Authorization`` header of a request.

    Args:
        host: as the ``Host`` header says it.
        target: path and query.
        at: of :func:`timestamp`; Akamai refuses one that is thirty seconds off.
        nonce: never used before.
    """
    named = {
        "client_token": credentials.client_token,
        "access_token": credentials.access_token,
        "timestamp": at,
        "nonce": nonce,
    }
    begin = f"{ALGORITHM} " + "".join(f"{name}={value};" for name, value in named.items())
    hashed = ""
    if method == "POST" and body:
        hashed = _base64(hashlib.sha256(body[:MAX_SIGNED_BYTES]).digest())
    headers = ""  # none is signed: the purge API asks for none
    told = "\t".join((method, scheme, host, target, headers, hashed, begin))
    key = _hmac(credentials.client_secret, at)
    return f"{begin}signature={_hmac(key, told)}"


def _hmac(key: str, text: str) -> str:
    return _base64(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
