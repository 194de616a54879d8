"""Objects in a bucket, through obstore: S3 and what speaks its protocol, GCS, Azure.

obstore's blocking calls are used, in threads: its asynchronous ones answer from threads of their
own, and such an answer aborts the process where the interpreter is just ending (pyo3-async-runtimes
issue 40). A chunk is at most 8 MiB and is sent by one PUT, never in parts, so there is nothing to
clean up after a kill. Conditional writes are ``If-None-Match: *`` and ``If-Match`` (RFC 9110
section 13.1), which S3 and moto honour.

Secrets come from the usual ``AWS_*`` variables, which obstore reads itself, or from a file in the
form of ``~/.aws/credentials``. They stand in no message: foreign errors are named, never quoted.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, NotModifiedError, PreconditionError
from obstore.store import from_url

from origin.errors import StoreError
from origin.stores.objects import Stat, Tag
from wire.chunk import Buffer
from wire.errors import ConfigError, ConflictError, NotFoundError, TooLargeError
from wire.http_server import read_token

_S3 = {"s3", "s3a"}
_OFFLINE = {"memory"}
_PAGE = 1_000
"""Objects in one answer to a listing; S3 gives no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """A bucket: table ``[origin.s3]``. What is empty is taken from the ``AWS_*`` variables.

    The bounds hold for every kind of bucket.
    """

    endpoint_url: str = ""
    """``https://host[:port]`` of a service that is not Amazon's own."""
    region: str = ""
    """The bucket's, such as ``us-east-1``; empty: as ``AWS_REGION`` says."""
    allow_http: bool = False
    """Allow an endpoint without TLS."""
    virtual_hosted: bool = False
    """The bucket's name stands in the endpoint's host name, not in the path."""
    credentials_file: Path | None = None
    """In the form of ``~/.aws/credentials``, mode 600."""
    profile: str = "default"
    """The section of the credentials file."""
    connect_timeout_s: float = 5.0
    """For one connection to the service."""
    request_timeout_s: float = 60.0
    """For one attempt at one request."""
    retries: int = 4
    """Further attempts at a request that failed; 0: none."""
    retry_timeout_s: float = 90.0
    """After which no further attempt is made."""


class BucketObjects:
    """A bucket, or a folder of one.

    Args:
        url: ``s3://bucket/prefix``, or another form that obstore knows.

    Raises:
        ConfigError: the credentials cannot be read, or the configuration contradicts itself.
        Exception: whatever obstore says of a URL that it does not know.
    """

    def __init__(self, url: str, config: S3Config) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme in _OFFLINE:
            self._objects: Any = from_url(url)
            return
        options: dict[str, Any] = {
            "client_options": {
                "allow_http": config.allow_http,
                "connect_timeout": timedelta(seconds=config.connect_timeout_s),
                "timeout": timedelta(seconds=config.request_timeout_s),
            },
            "retry_config": {
                "max_retries": config.retries,
                "retry_timeout": timedelta(seconds=config.retry_timeout_s),
            },
        }
        if scheme in _S3:
            options["config"] = _s3_options(config)
        self._objects = from_url(url, **options)

    @property
    def remote(self) -> bool:
        return True

    def put(self, key: str, data: Buffer) -> None:
        self._call("write", key, _put, key, data, "overwrite", missing_is_fault=True)

    def swap(self, key: str, data: bytes, tag: Tag | None) -> Tag:
        mode: Any = "create" if tag is None else dict(tag)
        made = self._call("write", key, _put, key, data, mode, missing_is_fault=True)
        return _tag(made)

    def get(self, key: str, limit_bytes: int) -> Buffer:
        return memoryview(self._call("read", key, _read, key, limit_bytes)[0])

    def get_tagged(
        self, key: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        etag = known.get("e_tag") if known is not None else None
        options = {"if_none_match": etag} if etag else None
        try:
            data, meta = self._call("read", key, _read, key, limit_bytes, options)
        except _UnchangedError:
            return None
        return bytes(data), _tag(meta)

    def stat(self, key: str) -> Stat | None:
        try:
            return _stat(self._call("look up", key, obstore.head, key))
        except NotFoundError:
            return None

    def pages(self, prefix: str) -> Iterator[list[Stat]]:
        pages = iter(self._call("list", prefix, _pages, prefix))
        while (page := self._call("list", prefix, lambda _objects: next(pages, None))) is not None:
            yield [_stat(meta) for meta in page]

    def remove(self, keys: Sequence[str]) -> None:
        if keys:
            self._call("remove", keys[0], _delete, list(keys))

    def move(self, old: str, new: str) -> None:
        self._call("move", old, obstore.rename, old, new)

    def path(self, key: str) -> Path | None:  # noqa: ARG002
        return None

    def sweep(self) -> None:
        """Nothing is ever half written."""

    def _call(
        self,
        verb: str,
        what: str,
        call: Callable[..., Any],
        *args: Any,
        missing_is_fault: bool = False,
    ) -> Any:
        """Run an obstore call; translate what it raises, once for all of them."""
        try:
            return call(self._objects, *args)
        except FileNotFoundError as error:
            if missing_is_fault:  # written to a bucket that is not there
                raise StoreError(f"cannot {verb} {what}: there is no such bucket") from error
            raise NotFoundError(f"not in the store: {what}") from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise ConflictError(f"{what} was changed by somebody else") from error
        except NotModifiedError as error:
            raise _UnchangedError from error
        except TooLargeError:
            raise
        except Exception as error:
            raise StoreError(f"cannot {verb} {what}: {type(error).__name__}") from error


class _UnchangedError(Exception):
    """The object is still the one that was known."""


def _s3_options(config: S3Config) -> dict[str, Any]:
    given = {"endpoint": config.endpoint_url, "region": config.region}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    if config.virtual_hosted:
        options["virtual_hosted_style_request"] = True
    if config.credentials_file is not None:
        options |= _credentials(config.credentials_file, config.profile)
    return options


def _credentials(file: Path, profile: str) -> dict[str, str]:
    """The keys of a profile. Raises ``ConfigError``, with nothing of the file's text in it."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_token(file))
        section = parser[profile]
        keys = {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section["aws_secret_access_key"],
        }
    except (configparser.Error, KeyError):
        raise ConfigError(
            f"{file} has no section [{profile}] with aws_access_key_id and aws_secret_access_key"
        ) from None
    token = section.get("aws_session_token")
    return {**keys, "session_token": token} if token else keys


def _put(objects: Any, key: str, data: Buffer, mode: Any) -> Any:
    return obstore.put(objects, key, data, mode=mode, use_multipart=False)


def _read(objects: Any, key: str, limit_bytes: int, options: Any = None) -> tuple[Any, Any]:
    found = obstore.get(objects, key, options=options)
    if found.meta["size"] > limit_bytes:
        raise TooLargeError(f"{key} has {found.meta['size']} B, over {limit_bytes} B")
    return found.bytes(), found.meta


def _pages(objects: Any, prefix: str) -> Any:
    return obstore.list(objects, prefix=prefix, chunk_size=_PAGE)


def _delete(objects: Any, keys: list[str]) -> None:
    try:
        obstore.delete(objects, keys)
    except FileNotFoundError:
        # GCS and Azure stop at the first that is not there; S3 does not mind.
        for key in keys:
            try:
                obstore.delete(objects, key)
            except FileNotFoundError:
                continue


def _stat(meta: Any) -> Stat:
    return Stat(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _tag(meta: Any) -> Tag:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}
