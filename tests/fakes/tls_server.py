"""An https server for a name of our choice, whose answers a test scripts byte by byte."""

from __future__ import annotations

import datetime
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "models.example.org"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came. Header names in lower case."""

    path: str
    headers: dict[str, str]


Answer = Callable[[Asked], Iterator[bytes]]
"""Gives the raw answer piece by piece; when it ends, so does the connection."""


@dataclass(slots=True)
class TlsServer:
    """A running server."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    """Believes this server's certificate and no other."""


def whole(content: bytes, *, etag: str = "", status: str = "200 OK", more: str = "") -> bytes:
    """An answer with this body."""
    tag = f"ETag: {etag}\r\n" if etag else ""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{tag}{more}\r\n"
    return head.encode() + content


def redirect(location: str) -> bytes:
    """An answer that leads elsewhere."""
    return whole(b"", status="302 Found", more=f"Location: {location}\r\n")


def ranged(content: bytes, asked: Asked, etag: str) -> tuple[bytes, bytes]:
    """The head and the body of a correct answer to a request with or without a range."""
    wanted = asked.headers.get("range", "")
    if not wanted or asked.headers.get("if-range") != etag:
        answer = whole(content, etag=etag)
        return answer[: -len(content)], content
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    body = content[start:]
    span = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}\r\n"
    answer = whole(body, etag=etag, status="206 Partial Content", more=span)
    return answer[: -len(body)], body


@contextmanager
def tls_server(folder: Path, answer: Answer, name: str = NAME) -> Iterator[TlsServer]:
    """Serve on this machine, with a certificate for ``name`` and for 127.0.0.1."""
    made = TlsServer()
    certificate = _certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _s, server_name, _c: made.server_names.append(server_name)
    made.tls.load_verify_locations(certificate)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as sock:
                with sock.makefile("rb") as stream:
                    asked = _read(stream.readline, made)
                for piece in answer(asked):
                    sock.sendall(piece)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="tls-server")
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def _read(line: Callable[[], bytes], made: TlsServer) -> Asked:
    path = line().decode().split(" ")[1]
    headers: dict[str, str] = {}
    while (text := line().decode().strip()) != "":
        key, _, value = text.partition(":")
        headers[key.lower()] = value.strip()
    made.asked.append(Asked(path, headers))
    return made.asked[-1]


def _certificate(folder: Path, name: str) -> Path:
    """Key and self-signed certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / f"{name}.pem"
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return file
