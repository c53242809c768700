"""Whether the hub answers at all, and how often it is asked. Its library asks six times, for half a minute or as long as the
hub says, and prints a message each time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

SECONDS: Final = 5.0
"""How long the hub may take to answer the first request, and may ask us to wait."""

TRIES: Final = 3
"""How often the hub is asked for the same thing while it answers that it is busy. Its library waits 1 and 2 seconds between."""

SILENT_FOR: Final = 20.0
"""For how many seconds a hub that did not answer is not asked again, so that ten models do not cost ten waits."""

_TOO_MANY: Final = 429
_silent: dict[str, tuple[float, str]] = {}
"""When a hub was found not to answer, by its address, and why."""
_BUSY: Final = (408, _TOO_MANY, 500, 502, 503, 504)


def require_answer(address: str, page: str = "", *, seconds: float = SECONDS) -> None:
    """Raise ConnectionError, with the reason, if the hub at `address` does not answer a request for `page` within some seconds.

    Any answer will do, and so will a certificate that only the hub's library knows. A hub that did not answer just now is not
    asked again.
    """
    import threading

    asked, reason = _silent.get(address, (0.0, ""))
    if reason and time.monotonic() - asked < SILENT_FOR:
        raise ConnectionError(f"{address}: {reason}")
    reasons: list[str] = []

    def ask() -> None:
        reasons.append(_why_silent(address + page, seconds))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    thread.start()
    thread.join(seconds + 1)
    reason = reasons[0] if reasons else f"no answer within {seconds:g} seconds"
    _silent[address] = (time.monotonic(), reason)
    if reason:
        raise ConnectionError(f"{address}: {reason}")


@contextlib.contextmanager
def without_retry_messages() -> Iterator[None]:
    """Leave out what the hub's library logs each time it tries again; the last error says the same."""
    import logging

    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class BusyError(ConnectionError):
    """The hub cannot answer now; `response` is what it said."""

    def __init__(self, response: Any) -> None:
        super().__init__(f"status {response.status_code} for {response.url}")
        self.response = response


@contextlib.contextmanager
def with_few_retries() -> Iterator[None]:
    """Raise BusyError once the hub has said TRIES times that it cannot answer now, or if it does not want to be asked again soon.

    Its library has no setting for this; its HTTP client has hooks. Versions that use requests have no such hooks, and ask as long
    as they do.
    """
    from huggingface_hub.utils._http import get_session

    hooks: list[Any] | None = getattr(get_session(), "event_hooks", {}).get("response")
    if hooks is None:
        yield
        return
    answers: dict[str, int] = {}

    def count(response: Any) -> None:
        if response.status_code in _BUSY:
            url = str(response.url)
            answers[url] = answers.get(url, 0) + 1
            if answers[url] >= TRIES or response.status_code == _TOO_MANY or _wants_a_pause(response):
                raise BusyError(response)

    hooks.append(count)
    try:
        yield
    finally:
        hooks.remove(count)


def _wants_a_pause(response: Any) -> bool:
    """Whether the hub asks for a pause of more than some seconds."""
    pause = str(response.headers.get("Retry-After", "0")).strip()
    return not (pause.isascii() and pause.isdecimal()) or int(pause) > SECONDS  # or until a date


def _why_silent(address: str, seconds: float) -> str:
    """Why there is no answer; "" if there is one, or if the reason is one that the hub's library may not have."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
            return ""
    except urllib.error.HTTPError:
        return ""
    except TimeoutError:
        return f"no answer within {seconds:g} seconds"
    except urllib.error.URLError as error:
        import socket

        reason = error.reason
        if isinstance(reason, TimeoutError):
            return f"no answer within {seconds:g} seconds"
        if isinstance(reason, socket.gaierror):
            return "its name cannot be found"
        return "the connection was refused" if isinstance(reason, ConnectionRefusedError) else ""
    except (OSError, ValueError):  # the library has its own way with it
        return ""
