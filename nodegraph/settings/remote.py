"""Where a shared store is, and how it may be used."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Final

from nodegraph.errors import SettingsError
from nodegraph.light_dataclass import dataclass
from nodegraph.settings.names import REMOTE_KEY_VARIABLE
from nodegraph.text import described

NO_REMOTE: Final = "none"

ACCESS: Final = ("write", "read")

_FORMS: Final = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:///FOLDER, or none"
_URL: Final = re.compile(r"(s3|gs|az)://[A-Za-z0-9._-]+(/[^?#\s]*)?|file:///[^?#]+|memory:///[^?#\s]*")
_LEAST_KEY: Final = 16


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A shared store. `key` signs its records; None: they are not signed, and those of others need no signature."""

    url: str
    read_only: bool = False
    key: bytes | None = field(default=None, repr=False)


def checked_remote(url: str, *, source: str, access: str, access_source: str, key: str) -> Remote | None:
    """The shared store at `url`, None if it says so. The sources are what messages call the origins of these values.

    Raises SettingsError if one of them cannot be used.
    """
    if not isinstance(url, str):
        raise SettingsError(f"[E401] {source} cannot be used: expected text such as s3://BUCKET/PREFIX, found {described(url)}")
    if url == NO_REMOTE:
        return None
    if not _URL.fullmatch(url):
        shown = re.sub(r"//[^/@]*@", "//...@", url)  # a password
        raise SettingsError(
            f"[E401] {source} cannot be used: expected the address of a shared store, {_FORMS}, found {described(shown)}. User "
            f"names and passwords do not belong into it: they come from the environment"
        )
    if access not in ACCESS:
        raise SettingsError(f"[E401] {access_source} cannot be used: expected 'write' or 'read', found {described(access)}")
    if key and len(key) < _LEAST_KEY:
        raise SettingsError(
            f"[E401] {REMOTE_KEY_VARIABLE} cannot be used: expected at least {_LEAST_KEY} characters that no one can guess, found "
            f"{len(key)}. 'openssl rand -hex 32' makes a good one"
        )
    return Remote(
        url=url.rstrip("/") if not url.startswith(("file:", "memory:")) else url,
        read_only=access == "read",
        key=key.encode() or None,
    )
