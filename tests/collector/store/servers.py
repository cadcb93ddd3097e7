"""The ClickHouse-HTTP double as a context, and certificates for it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DOUBLE = Path(__file__).with_name("battery") / "http_double.py"
PASSWORD = "p@ss:w/ord ü"


@dataclass(frozen=True)
class Tls:
    """PEM files: whom to trust, and what a server on 127.0.0.1 shows."""

    authority: Path
    certificate: Path
    key: Path


@contextmanager
def double(directory: Path, *, tls: Tls | None = None, password: str | None = None, version: str = "") -> Iterator[str]:
    """The address of a running double over the engine in `directory`, with its user, without a database."""
    arguments = [f"--password={password}"] if password is not None else []
    arguments += [f"--certificate={tls.certificate}", f"--key={tls.key}"] if tls else []
    arguments += [f"--version={version}"] if version else []
    command = [sys.executable, str(DOUBLE), str(directory), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            yield f"{'https' if tls else 'http'}://limelight@127.0.0.1:{port}"
        finally:
            process.kill()


def authority(directory: Path) -> Tls:
    """A certificate authority and a certificate of it for 127.0.0.1."""
    made = Tls(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Limelight test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clickhouse")])
    ca = _signed(ca_name, ca_name, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=None))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = _signed(name, ca_name, key, ca_key, here)
    made.authority.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _signed(name, issuer, key, issuer_key, extension):
    now = dt.datetime.now(dt.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1)).add_extension(extension, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    issued = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(issued, critical=False).sign(issuer_key, hashes.SHA256())
