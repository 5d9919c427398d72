"""`healthpredict cluster`: the Kubernetes cluster that versions are rolled out to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from healthpredict.operations.installation import Installation

app = typer.Typer(help="Set up the Kubernetes cluster, and refresh its registry login.", no_args_is_help=True)


@app.command("set-up")
def set_up(
    kubeconfig: Annotated[Path, typer.Option(help="Kubeconfig of the administrator. Rollouts do not use it.")],
    context: Annotated[str, typer.Option(help="Name of a context in that kubeconfig.")],
    folder: Annotated[
        Path, typer.Option(help="Folder of the administrator's manifests, relative to the source.")
    ] = Path("k8s/administrator"),
) -> None:
    """Create the namespace and a deployer with access to nothing else, and write the deployer's kubeconfig."""
    from healthpredict.operations.set_up_cluster import set_up_cluster

    done = set_up_cluster(Installation(), kubeconfig, context, folder)
    typer.echo(f"Namespace {done.namespace}; the deployer's kubeconfig is {done.kubeconfig}, context {done.context}")


@app.command("refresh-login")
def refresh_login() -> None:
    """Renew the cluster's login for the image registry. A login for ECR is valid for 12 hours."""
    from healthpredict.operations.put_on_kubernetes import refresh_login as operation

    typer.echo("The login was renewed." if operation(Installation()) else "This registry needs no login.")
