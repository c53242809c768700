"""The protocol in which a terminal takes outputs to show: from what it puts into the environment, else by asking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_BY_TERM: Final = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty"}
_BY_PROGRAM: Final = {"ghostty": "kitty", "iTerm.app": "iterm", "WezTerm": "iterm", "mintty": "iterm"}
_BY_VARIABLE: Final = {"KITTY_WINDOW_ID": "kitty", "WEZTERM_PANE": "iterm"}

_MULTIPLEXERS: Final = ("TMUX", "STY", "ZELLIJ")
"""Variables of tmux, screen and zellij."""

_ANSWER_NOTHING: Final = ("", "dumb", "linux", "unknown")


def protocol(environment: Mapping[str, str], takes_sixel: Callable[[], bool]) -> str | None:
    """The protocol of the terminal on stdout: "kitty", "iterm" or "sixel". None if it shows nothing, or must not.

    In a multiplexer, the other variables may be those of another terminal, so only the multiplexer itself is asked.
    """
    term = environment.get("TERM", "")
    if environment.get("CI") or environment.get("NO_COLOR") or term in _ANSWER_NOTHING:
        return None
    if not (any(map(environment.get, _MULTIPLEXERS)) or term.startswith(("screen", "tmux"))):
        program = environment.get("TERM_PROGRAM", "")
        if found := _BY_TERM.get(term) or _BY_PROGRAM.get(program):
            return found
        if not program and (found := _by_variable(environment)):
            return found
    return "sixel" if takes_sixel() else None


def _by_variable(environment: Mapping[str, str]) -> str | None:
    if environment.get("LC_TERMINAL") == "iTerm2":  # ssh passes it on
        return "iterm"
    return next((found for name, found in _BY_VARIABLE.items() if environment.get(name)), None)
