"""Whether the hub answers at all. Its library asks six times, for half a minute or more, and prints a message each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

SECONDS: Final = 5.0
"""How long the hub may take to answer the first request."""


def require_answer(address: str, page: str = "", *, seconds: float = SECONDS) -> None:
    """Raise ConnectionError, with the reason, if the hub at `address` does not answer a request for `page` within some seconds.

    Any answer will do, and so will a certificate that only the hub's library knows.
    """
    import threading

    reasons: list[str] = []

    def ask() -> None:
        reasons.append(_why_silent(address + page, seconds))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    thread.start()
    thread.join(seconds + 1)
    reason = reasons[0] if reasons else f"no answer within {seconds:g} seconds"
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
