"""`healthpredict cluster`: the Kubernetes cluster that versions are rolled out to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from healthpredict.config import Settings

app = typer.Typer(help="The Kubernetes cluster: set it up once, refresh its login.", no_args_is_help=True)


@app.command("set-up")
def set_up(
    kubeconfig: Annotated[Path, typer.Option(help="Of the administrator. Rollouts never see it.")],
    context: Annotated[str, typer.Option(help="Of that kubeconfig, by name.")],
    folder: Annotated[Path, typer.Option(help="Of the administrator's files, below the source.")] = Path(
        "k8s/administrator"
    ),
) -> None:
    """Make the namespace and a deployer who may touch nothing else, and write the deployer's kubeconfig."""
    from healthpredict.operations.set_up_cluster import set_up_cluster

    done = set_up_cluster(Settings(), kubeconfig, context, folder)
    typer.echo(f"Namespace {done.namespace}; the deployer's kubeconfig is {done.kubeconfig}, context {done.context}")


@app.command("refresh-login")
def refresh_login() -> None:
    """Give the cluster a fresh login for the image registry. ECR's are good for 12 hours."""
    from healthpredict.operations.put_on_kubernetes import refresh_login as operation

    typer.echo("The login is fresh." if operation(Settings()) else "This registry wants no login of ours.")
