"""A Postgres that is none of the services: in a container of its own, with certificates of an authority of its own."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "database.hospital.example"
IMAGE = "postgres:15-bookworm"
PASSWORDS = {"prefect": r"a:b\c@d/e'%f", "mlflow": "plain"}
"""The first one has each character that means something in a URL or in a file of passwords."""
_FOLDER = "/var/lib/postgresql/data"


class OwnPostgres:
    """It has one database for each server, whose names and users differ from those of our own Postgres."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.authority = folder / "authority.pem"

    def start(self) -> None:
        _docker("network", "create", self.name)
        run = ("run", "--detach", "--name", self.name, "--network", self.name, "--network-alias", HOST)
        _docker(*run, "--env", "POSTGRES_PASSWORD=administrator", "--pull", "never", IMAGE)
        deadline = time.monotonic() + 120
        # Over TCP: at the first start, the server listens only on its socket until it is initialized.
        while not self._inside("pg_isready", "--quiet", "--host=127.0.0.1", check=False):
            assert time.monotonic() < deadline, "Postgres did not start"
            time.sleep(0.5)
        key, certificate = self._certificates()
        for file, content in (("server.key", key), ("server.crt", certificate)):
            self._inside("sh", "-c", f"umask 077 && cat >{_FOLDER}/{file}", stdin=content)
        self.query("ALTER SYSTEM SET ssl = on")
        self.query("SELECT pg_reload_conf()")
        self.create_databases()

    def create_databases(self) -> None:
        """Empty ones, instead of those that are there."""
        for server, password in PASSWORDS.items():
            user = f"hospital_{server}"
            self.query(f"DROP DATABASE IF EXISTS {server}_of_hospital WITH (FORCE)")
            self.query(f"DROP ROLE IF EXISTS {user}")
            quoted = password.replace("'", "''")
            self.query(f"CREATE ROLE {user} LOGIN PASSWORD '{quoted}'")
            self.query(f"CREATE DATABASE {server}_of_hospital OWNER {user}")

    def url(self, server: str) -> str:
        return f"postgresql://hospital_{server}@{HOST}:5432/{server}_of_hospital"

    def query(self, statement: str, database: str = "postgres") -> list[str]:
        options = ("--username=postgres", "--set=ON_ERROR_STOP=1", "--tuples-only", "--no-align")
        return self._inside("psql", *options, database, stdin=statement.encode()).split()

    def destroy(self) -> None:
        for command in (("rm", "--force", "--volumes", self.name), ("network", "rm", self.name)):
            subprocess.run(["docker", *command], check=False, capture_output=True)

    def _inside(self, *command: str, stdin: bytes = b"", check: bool = True) -> str:
        run = ["docker", "exec", "--interactive", "--user", "postgres", self.name, *command]
        done = subprocess.run(run, input=stdin, capture_output=True, check=False)
        if not check:
            return "yes" if done.returncode == 0 else ""
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def _certificates(self) -> tuple[bytes, bytes]:
        """Write the certificate of the authority. Returns: key and certificate of the server."""
        authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hospital")])

        def certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
            now = datetime.now(UTC)
            signed = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(issuer)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(days=1))
                .not_valid_after(now + timedelta(days=1))
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                .sign(authority, hashes.SHA256())
            )
            return signed.public_bytes(serialization.Encoding.PEM)

        self.authority.write_bytes(certificate(issuer, authority, ca=True))
        self.authority.chmod(0o444)
        key = server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key, certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]), server, ca=False)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
