"""TLS in front of the simulator: it forwards requests, and can damage the answer to a submit."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

EVERY = 3
"""Of so many POSTs the answer of one is damaged."""

_PATIENCE = 30.0  # seconds for one read or write
_PIECE = 1 << 16
_BAD_RECORD = b"\x17\x03\x03\x00\x20" + b"damaged!" * 4  # as long as its head says; no key decrypts it


class TlsFront(socketserver.ThreadingTCPServer):
    """Takes one request per connection; a thread for each.

    Args:
        service: Origin of the simulator.
        context: With the certificate.

    Attributes:
        damaging: Whether answers are damaged.
        damaged: How many answers were, each after the simulator had given it.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: str, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        parts = urlsplit(service)
        self.service = (parts.hostname or "", parts.port or 0)
        self.base_url = f"https://127.0.0.1:{self.server_address[1]}"
        self.damaging = True
        self.damaged = 0
        self._context = context
        self._posts = itertools.count(1)
        self._counting = threading.Lock()

    def get_request(self) -> tuple[Any, Any]:
        """The handshake is left to the connection's own thread."""
        taken, address = super().get_request()
        taken.settimeout(_PATIENCE)
        return self._context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False), address

    def damage(self) -> int | None:
        """The number of the damage that this POST suffers, from 0; None for none."""
        with self._counting:
            if not self.damaging or next(self._posts) % EVERY:
                return None
            self.damaged += 1
            return self.damaged - 1


class _Forwarding(socketserver.StreamRequestHandler):
    server: TlsFront
    request: ssl.SSLSocket

    def handle(self) -> None:
        with suppress(OSError):
            request = self._read()
            if request:
                damage = self.server.damage() if request.startswith(b"POST ") else None
                with socket.create_connection(self.server.service, _PATIENCE) as service:
                    service.sendall(request)
                    answer = iter(lambda: service.recv(_PIECE), b"")
                    if damage is None:
                        self._pass_on(answer)
                    else:
                        _DAMAGES[damage % len(_DAMAGES)](self, b"".join(answer))

    def _read(self) -> bytes:
        """The whole request, for a connection of its own; empty where none came."""
        lines = list(iter(self.rfile.readline, b"\r\n"))[: 1 << 10]
        fields = [line for line in lines if not line.lower().startswith(b"connection:")]
        size = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        added = [b"Connection: close\r\n", b"X-Forwarded-Proto: https\r\n", b"\r\n"]
        return b"".join([*fields, *added]) + self.rfile.read(size) if lines else b""

    def _pass_on(self, answer: Iterator[bytes]) -> None:
        for piece in answer:
            self.request.sendall(piece)
        self.request.unwrap()  # the close_notify that one of the damages leaves out

    def _corrupt(self, answer: bytes) -> None:
        """A record that cannot be decrypted, after the first half of the answer."""
        self.request.sendall(answer[: len(answer) // 2])
        plain = socket.socket(fileno=self.request.detach())
        with plain:
            plain.sendall(_BAD_RECORD)
            while plain.recv(_PIECE):  # until the client closes: a reset would be another damage
                pass

    def _reset(self, _answer: bytes) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

    def _cut(self, answer: bytes) -> None:
        """EOF without close_notify after the first half of the answer: `close` does not send one."""
        self.request.sendall(answer[: len(answer) // 2])
        self.request.close()


_DAMAGES = (_Forwarding._corrupt, _Forwarding._reset, _Forwarding._cut)  # noqa: SLF001 (in this module)


@contextmanager
def tls_front(service: str, context: ssl.SSLContext) -> Iterator[TlsFront]:
    """Run a front of the simulator in a thread."""
    with TlsFront(service, context) as front:
        serving = threading.Thread(target=front.serve_forever, daemon=True)
        serving.start()
        try:
            yield front
        finally:
            front.shutdown()
            serving.join()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and its certificate as a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, both, pem = folder / "certificate.pem", folder / "server.pem", serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    trusted.write_bytes(certificate.public_bytes(pem))
    both.write_bytes(secret + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trusted
