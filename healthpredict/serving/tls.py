"""The files for HTTPS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from healthpredict.errors import ConfigurationError


@dataclass(frozen=True)
class Tls:
    """How a server identifies itself and its clients.

    Attributes:
        certificate: file of the certificate and those that vouch for it, in PEM.
        key: file of its private key, in PEM.
        client_ca: file of certificates in PEM, one of which must have signed the certificate of each client; without it, clients
            need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def checked_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Return the files for HTTPS, or None if there are none: the service then speaks HTTP.

    Raises:
        ConfigurationError: a file is missing or cannot be read, the key is encrypted, or it is not that of the certificate.
    """
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("HTTPS needs both a certificate and its key. Name both files.")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # also SSLError
        named = ", ".join(str(file) for file in (certificate, key, client_ca) if file is not None)
        raise ConfigurationError(
            f"HTTPS cannot use {named} ({error.strerror or error}). Name a certificate, its key without a password, and "
            "certificates of the clients' authority, in PEM."
        ) from error
    return Tls(certificate, key, client_ca)
