"""Options that say where nodes run: in threads of this process, or in other processes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nodegraph.cli.options import Option

executor_option: Option = click.option(
    "--executor",
    type=click.Choice(["threads", "ray"]),
    default="threads",
    show_default=True,
    help="Where nodes run: in this process, or what computes with a model in processes of Ray, one for each GPU.",
)
address_option: Option = click.option(
    "--address",
    metavar="ADDRESS",
    help="With --executor ray: the address of a Ray cluster, or auto. Without it, Ray starts on this machine.",
)
workers_option: Option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --executor ray: how many processes. Default: one for each GPU, or for each machine without GPUs.",
)
gpus_option: Option = click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0),
    metavar="N",
    help="With --executor ray: how many GPUs each process gets; 0.5 lets two share one. Default: 1 if there are GPUs.",
)


def _labels(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
    labels = [tuple(text.split("=", 1)) for text in values]
    if wrong := [text for text, label in zip(values, labels, strict=True) if len(label) != 2]:
        message = f"expected NAME=VALUE, found '{wrong[0]}'. For example: --worker-label ray.io/accelerator-type=A100"
        raise click.BadParameter(message, ctx=ctx, param=param)
    return [(name, value) for name, value in labels]


label_option: Option = click.option(
    "--worker-label",
    "worker_labels",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_labels,
    help="With --executor ray: use only machines of the cluster with this label. May be repeated.",
)
