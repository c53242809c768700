"""The option `--verify-cache [SHARE]` of `nodegraph run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from nodegraph.cli.options import Option

_NAME: Final = "--verify-cache"


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from nodegraph.settings import load_verify_share

    return None if value is None else load_verify_share(value.strip(), _NAME)


verify_option: Option = click.option(
    _NAME,
    "verify",
    is_flag=False,
    flag_value="1",
    metavar="[SHARE]",
    callback=_share,
    help="Compute this share of the cached results again, such as 0.01, and compare; without SHARE, all of them. Replace those "
    "that differ, and exit with 3 then.  [env var: NODEGRAPH_VERIFY]",
)


def with_share(args: Sequence[str]) -> list[str]:
    """`args`, in which the word after `--verify-cache` is joined to it, unless it is an option or the workflow file."""
    joined: list[str] = []
    for word in args:
        if joined[-1:] != [_NAME]:
            joined.append(word)
        elif _is_number(word) or not (word.startswith("-") or _is_file(word)):
            joined[-1] = f"{_NAME}={word}"
        else:
            joined[-1:] = [f"{_NAME}=1", word]
    return [word.replace("=-", "= -") if word.startswith(f"{_NAME}=-") else word for word in joined]  # click takes -1 for an option


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_file(word: str) -> bool:
    path = Path(word)
    return path.suffix in (".yaml", ".yml", ".json") or path.exists()
