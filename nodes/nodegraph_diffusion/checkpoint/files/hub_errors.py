"""What the errors of the hub's library mean, in our words. Which ones the network causes depends on the library's version."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

LOG_IN: Final = "log in with `hf auth login`, or set HF_TOKEN"

FORBIDDEN: Final = ("HF_HUB_OFFLINE, which forbids downloads", "Unset it, or give a path instead.")
"""What is found, and what to do, if the user forbids downloads."""

_TOO_MANY: Final = 429
_FIRST_OF_SERVER: Final = 500
_REFUSED: Final = (401, 403)
_NOT_FOUND: Final = (404, 410)
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_TIMEOUTS: Final = frozenset({"TimeoutException", "Timeout", "TimeoutError"})  # of httpx, requests and Python
_LOST: Final = frozenset({"TransportError", "ConnectionError"})
_OFFLINE: Final = frozenset({"OfflineModeIsEnabled"})


def describe_error(error: BaseException, address: str) -> tuple[str, str]:
    """What was found instead of a download from the hub at `address`, and what to do."""
    causes = list(_chain(error))
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return _answer(status, address)
    if _first(causes, _OFFLINE):
        return FORBIDDEN
    disk = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in _DISK), None)
    if disk is not None:
        where = f" ({disk.filename})" if disk.filename else ""
        return f"an error of the disk: {disk.strerror}{where}", "Free some space, or set HF_HOME to another folder."
    if _first(causes, _TIMEOUTS):
        longer = "HF_HUB_DOWNLOAD_TIMEOUT sets how many seconds to wait."
        return f"no answer from {address} in time", f"Run again: a download goes on where it stopped. {longer}"
    lost = _first(causes, _LOST)
    message = _message(lost or error)
    kind = "no connection" if message.startswith(address) else f"a lost connection to {address}" if lost else "an error"
    return f"{kind} ({message})", "Check the connection (and HF_ENDPOINT, the free space on the disk), or give a path instead."


def _answer(status: int, address: str) -> tuple[str, str]:
    """What an answer with this status says, and what to do."""
    if status in _NOT_FOUND:
        hint = "Copy the names of model and file from the model's page."
        if os.environ.get("HF_ENDPOINT"):
            hint += " HF_ENDPOINT is set: check that there is a hub."
        return f"the answer 'not found' ({status}) from {address}", hint
    if status in _REFUSED:
        return f"a refusal ({status}) by {address}", f"If the model is private, {LOG_IN}."
    if status == _TOO_MANY:
        return f"the answer 'too many requests' ({status}) from {address}", f"Wait some minutes, or {LOG_IN}."
    if status >= _FIRST_OF_SERVER:
        return f"a failure of {address} itself ({status})", "Run again later, or give a path instead."
    return f"an answer with status {status} from {address}", "Check HF_ENDPOINT, or give a path instead."


def _first(errors: list[BaseException], names: frozenset[str]) -> BaseException | None:
    """The first of these errors that is of a class with one of these names."""
    return next((error for error in errors if names & {cls.__name__ for cls in type(error).__mro__}), None)


def _message(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
