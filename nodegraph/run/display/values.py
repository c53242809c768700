"""Values as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any, Final

from nodegraph.text import described

_MOST_VALUES: Final = 16
_STYLE: Final = 'style="display: inline-block; margin: 4px"'


def values_as_html(title: str, values: Iterable[tuple[str, Callable[[], Any]]]) -> str:
    """Named values, each read when it is its turn: by their method `as_html` if they have one, as text otherwise."""
    parts: list[str] = []
    for name, read in values:
        if len(parts) == _MOST_VALUES:
            parts.append("<div>and more</div>")
            break
        try:
            content = "".join(_value(value) for value in _flat(read()))
        except Exception as error:
            content = escape(f"{name} cannot be shown: {error}")
        parts.append(
            f'<figure style="display: inline-block; margin: 4px">{content}<figcaption>{escape(name)}</figcaption></figure>'
        )
    return f"<div><div>{escape(title)}</div>{''.join(parts)}</div>"


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _value(value: Any) -> str:
    return shown(value) or f"<code>{escape(described(value))}</code>"


def shown(value: Any) -> str | None:
    """What the method `as_html` of a value returns, which a port type may have. None if it has none."""
    as_html = getattr(value, "as_html", None)
    return None if as_html is None else str(as_html())
