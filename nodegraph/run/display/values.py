"""Values as HTML, for notebooks: pictures where values make them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any, Final

from nodegraph.text import described

_MOST_VALUES: Final = 16
_STYLE: Final = 'style="display: inline-block; margin: 4px"'


def values_as_html(title: str, values: Iterable[tuple[str, Callable[[], Any]]]) -> str:
    """Named values, each read when it is its turn: those that have pictures of themselves as pictures, others as text."""
    shown: list[str] = []
    for name, read in values:
        if len(shown) == _MOST_VALUES:
            shown.append("<div>and more</div>")
            break
        try:
            content = "".join(_value(value) for value in _flat(read()))
        except Exception as error:
            content = escape(f"{name} cannot be shown: {error}")
        shown.append(
            f'<figure style="display: inline-block; margin: 4px">{content}<figcaption>{escape(name)}</figcaption></figure>'
        )
    return f"<div><div>{escape(title)}</div>{''.join(shown)}</div>"


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _value(value: Any) -> str:
    return picture(value) or f"<code>{escape(described(value))}</code>"


def picture(value: Any) -> str | None:
    """An element with the PNG that a value makes of itself, as IPython asks for it. None if it makes none."""
    make = getattr(value, "_repr_png_", None)
    data = make() if make is not None else None
    return f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}">' if isinstance(data, bytes) else None
