"""OpenSSH's server on 127.0.0.1, with a user `ubuntu` as on the AWS host, and a client that finds it under any address."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = "/usr/sbin/sshd"
_IN_ITS_OWN_MOUNTS = """
mount --bind passwd /etc/passwd
mount --bind shadow /etc/shadow
mkdir -p /run/sshd
mount -t tmpfs -o mode=755 tmpfs /run/sshd
cp user_key.pub /run/sshd/authorized_keys
exec {server} -D -e -f sshd_config
"""
_SERVER_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
AllowUsers ubuntu
"""
_CLIENT_CONFIG = """
Host *
  HostName 127.0.0.1
  Port {port}
  UserKnownHostsFile {folder}/known_hosts
"""


@dataclass(frozen=True)
class SshServer:
    """A running server.

    Attributes:
        programs: folder with an `ssh` that connects to this server, whatever host is named.
        identity: file of the private key that it accepts.
    """

    programs: Path
    identity: Path


@contextmanager
def ssh_server(folder: Path, port: int) -> Iterator[SshServer]:
    """Run the server for the time of a `with` block, as root. The user exists only for this server. Args: folder, an empty one."""
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + "ubuntu:x:61000:61000::/:/bin/sh\n")
    (folder / "shadow").touch(mode=0o600)
    (folder / "shadow").write_text("".join(f"{user}:*:19000:0:99999:7:::\n" for user in ("root", "sshd", "ubuntu")))
    (folder / "sshd_config").write_text(_SERVER_CONFIG.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(_CLIENT_CONFIG.format(port=port, folder=folder))
    programs = folder / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
    (programs / "ssh").chmod(0o755)
    script = _IN_ITS_OWN_MOUNTS.format(server=SERVER)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script], cwd=folder, stderr=log
        )
        try:
            yield SshServer(programs, folder / "user_key")
        finally:
            server.terminate()
            server.wait()
