"""HTTPS with certificate files, and mutual TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from as_process import start, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError
from healthpredict.rollout.ports import free_port
from healthpredict.serving.server import ServiceParams, serve


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


def issue(folder: Path, name: str, issuer: Pair | None = None) -> Pair:
    """Write a certificate for 127.0.0.1, signed by an issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signed_by = key, subject
    if issuer is not None:
        signer = serialization.load_pem_private_key(issuer.key.read_bytes(), None)
        signed_by = x509.load_pem_x509_certificate(issuer.certificate.read_bytes()).subject
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issuer is None,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        # Python 3.13 requires these three, as RFC 5280 does.
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def of_server(authority: Pair) -> Pair:
    return issue(authority.key.parent, "server", authority)


def trusting(authority: Pair, client: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


@contextmanager
def running(bundle: Bundle, *arguments: str) -> Iterator[int]:
    port = free_port()
    process = start(str(bundle.path), f"--port={port}", *arguments)
    try:
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=30)


def status(port: int, context: ssl.SSLContext) -> int | None:
    """Status of a request, or None if the connection fails."""
    try:
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.get(f"https://127.0.0.1:{port}/health/ready").status_code
    except httpx.TransportError:
        return None


def test_the_service_speaks_https_only(bundle: Bundle, authority: Pair, of_server: Pair) -> None:
    files = (f"--tls-certificate={of_server.certificate}", f"--tls-key={of_server.key}")
    with running(bundle, *files) as port:
        wait_until(lambda: status(port, trusting(authority)) == 200, "ready")
        assert status(port, ssl.create_default_context()) is None, "its authority is not trusted"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False)


def test_a_client_without_a_certificate_of_the_authority_is_refused(
    bundle: Bundle, authority: Pair, of_server: Pair, tmp_path: Path
) -> None:
    files = (f"--tls-certificate={of_server.certificate}", f"--tls-key={of_server.key}")
    known, stranger = issue(tmp_path, "known", authority), issue(tmp_path, "stranger", issue(tmp_path, "other"))
    with running(bundle, *files, f"--tls-client-ca={authority.certificate}") as port:
        wait_until(lambda: status(port, trusting(authority, known)) == 200, "ready")
        assert status(port, trusting(authority)) is None
        assert status(port, trusting(authority, stranger)) is None


@pytest.mark.parametrize("what", ["no key", "no certificate", "missing", "not of this key", "client authority"])
def test_files_that_cannot_be_used_are_an_error(
    bundle: Bundle, authority: Pair, of_server: Pair, tmp_path: Path, what: str
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    wrong = {
        "no key": {"tls_certificate": of_server.certificate},
        "no certificate": {"tls_client_ca": authority.certificate},
        "missing": {"tls_certificate": tmp_path / "none.pem", "tls_key": of_server.key},
        "not of this key": {"tls_certificate": of_server.certificate, "tls_key": authority.key},
        "client authority": {
            "tls_certificate": of_server.certificate,
            "tls_key": of_server.key,
            "tls_client_ca": junk,
        },
    }
    with pytest.raises(ConfigurationError, match="HTTPS"):
        serve(ServiceParams(bundle=str(bundle.path), **wrong[what]))
