"""One POST to an address that someone typed in: where it may go, and how it is sent.

The address is resolved once, every result is checked, and the connection goes to the checked address itself, so that a
name that changes its mind in between gains nothing. No redirects, no proxies, no response text: only the status.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
"""Seconds for one delivery, from connecting to the status line."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class DeliveryFailed(Exception):
    """A delivery that did not arrive; the message may be shown. `final`: trying again cannot help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: `host` for names and certificates, `path` with its query."""

    secure: bool
    host: str
    port: int
    path: str
    internal: bool


def parse_target(url: str, allowed_hosts: Collection[str]) -> Target:
    """The parts of a webhook's address; `DeliveryFailed` (final) for one that policy forbids.

    https everywhere; http, and addresses inside the network, only for hosts in `allowed_hosts`.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise DeliveryFailed("the address has characters that do not belong in a URL", final=True)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise DeliveryFailed("the address is not a URL", final=True) from None
    if not host or parts.scheme not in ("http", "https"):
        raise DeliveryFailed("the address must be https://host/…", final=True)
    if parts.username is not None or parts.password is not None:
        raise DeliveryFailed("the address must not carry a user or password; use the channel's secret", final=True)
    internal = host in {name.lower() for name in allowed_hosts}
    secure = parts.scheme == "https"
    if not secure and not internal:
        raise DeliveryFailed("http is allowed only for hosts in LIMELIGHT_WEBHOOK_ALLOWED_HOSTS; use https", final=True)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(secure, host, port or (443 if secure else 80), path, internal)
    with contextlib.suppress(ValueError):
        _require_public(target, [str(ipaddress.ip_address(host))])
    return target


def resolve(target: Target) -> str:
    """The address to connect to; `DeliveryFailed` where the name is unknown or any of its addresses is internal."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DeliveryFailed(f"the name {target.host} cannot be resolved") from None
    addresses = [str(item[4][0]) for item in found]
    _require_public(target, addresses)
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is out on the internet: not private, loopback, link-local, CGNAT, ULA, nor in disguise."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.sixtofour is not None or parsed.teredo is not None or parsed in _NAT64 or parsed.is_site_local:
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def post(url: str, body: dict[str, Any], *, secret: str | None, allowed_hosts: Collection[str], now_s: float) -> None:
    """Send `body` as JSON, signed where there is a secret; `DeliveryFailed` unless the answer is 2xx."""
    target = parse_target(url, allowed_hosts)
    address = resolve(target)
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    connection = _Pinned(target, address)
    # A socket timeout starts again with every byte that trickles in; this one does not.
    deadline = threading.Timer(TIMEOUT_S, connection.abort)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("POST", target.path, data, headers_of(data, str(body["dedupe_key"]), secret, now_s))
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryFailed(_reason(error, aborted=connection.aborted)) from None
    finally:
        deadline.cancel()
        connection.close()
    if 300 <= status < 400:
        raise DeliveryFailed(f"answered {status}; redirects are not followed")
    if not 200 <= status < 300:
        raise DeliveryFailed(f"answered {status}")


def headers_of(data: bytes, dedupe_key: str, secret: str | None, now_s: float) -> dict[str, str]:
    """Headers of a delivery. The signature is hex HMAC-SHA256 over `<timestamp>.<body>` with the channel's secret."""
    timestamp = str(int(now_s))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "limelight-webhook/1",
        "Limelight-Timestamp": timestamp,
        "Limelight-Dedupe-Key": dedupe_key,
    }
    if secret is not None:
        signature = hmac.new(secret.encode(), timestamp.encode() + b"." + data, hashlib.sha256).hexdigest()
        headers["Limelight-Signature"] = f"v1={signature}"
    return headers


class _Pinned(http.client.HTTPConnection):
    """A connection to a checked address that speaks to, and verifies, the target's name."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__(target.host, target.port, timeout=TIMEOUT_S)
        self.default_port = 443 if target.secure else 80
        self.aborted = False
        self._target = target
        self._address = address
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the pinned address; TLS with the name's certificate."""
        self._raw = socket.create_connection((self._address, self._target.port), timeout=TIMEOUT_S)
        self.sock = self._raw
        if self._target.secure:
            context = ssl.create_default_context()
            name = self._target.host
            # The handshake comes after `self.sock` is set, so that `abort` reaches it.
            self.sock = context.wrap_socket(self._raw, server_hostname=name, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def abort(self) -> None:
        """End whatever is going on, from another thread."""
        self.aborted = True
        sock = self.sock if self.sock is not None else self._raw
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _require_public(target: Target, addresses: list[str]) -> None:
    if not target.internal and not all(is_public(address) for address in addresses):
        raise DeliveryFailed(
            f"{target.host} is inside the network; name it in LIMELIGHT_WEBHOOK_ALLOWED_HOSTS to allow it", final=True
        )


def _reason(error: Exception, *, aborted: bool) -> str:
    if aborted or isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS"
    if isinstance(error, http.client.HTTPException):
        return "it does not speak HTTP"
    return f"cannot connect: {getattr(error, 'strerror', None) or type(error).__name__}"
