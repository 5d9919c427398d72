"""`healthpredict keys`: who may call the API, and the key for pseudonyms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation

app = typer.Typer(help="Make, list and revoke API keys, and make the key for pseudonyms.", no_args_is_help=True)
KeyFile = Annotated[Path | None, typer.Option("--file", help="File of keys; by default in the state folder.")]


@app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Name of the caller.")],
    file: KeyFile = None,
    given: Annotated[
        Path | None,
        typer.Option("--given", help="File with a key that was made elsewhere. It replaces the key of this name."),
    ] = None,
) -> None:
    """Make a key and print it, once. To rotate keys: add a new one, let the caller switch, then revoke the old one."""
    from healthpredict.storage.key_file import add_key as operation
    from healthpredict.storage.key_file import admit_key

    if given is not None:
        admit_key(file or _key_file(), name, given)
    else:
        typer.echo(operation(file or _key_file(), name))


@app.command("patient")
def add_patient_key(
    file: Annotated[Path | None, typer.Option("--file", help="By default in the state folder.")] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Replace the key. Later pseudonyms of a patient will not match earlier ones.")
    ] = False,
    because: Annotated[str, typer.Option(help="Why the key is replaced, which the ledger records.")] = "",
) -> None:
    """Make the key for the pseudonyms of patients in the prediction log, if there is none. Backups contain it."""
    from healthpredict.operations.patient_key import ensure_patient_key, start_new_patient_key

    installation = Installation()
    if new:
        kept = start_new_patient_key(installation, because, file)
        if kept is not None:
            typer.echo(f"The earlier key is kept as {kept}")
    else:
        ensure_patient_key(installation, file)
    typer.echo(f"The key is in {file or installation.settings.patient_key_path}")


@app.command("list")
def list_keys(file: KeyFile = None) -> None:
    """List the keys, and when each was made."""
    from healthpredict.storage.key_file import list_keys as operation

    for key in operation(file or _key_file()):
        typer.echo(f"{key.created_at:%Y-%m-%d %H:%M} {key.name}")


@app.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Name of the key.")], file: KeyFile = None) -> None:
    """Remove a key. A running API rejects it after about a second."""
    from healthpredict.storage.key_file import revoke_key as operation

    operation(file or _key_file(), name)
    typer.echo(f"Revoked: {name}")


def _key_file() -> Path:
    return Settings().api_keys_path
