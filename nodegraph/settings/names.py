"""Every setting: its name in a file, its variable in the environment, and what it means."""

from __future__ import annotations

from typing import Final

from nodegraph.light_dataclass import dataclass

DIRECTORY_VARIABLE: Final = "NODEGRAPH_CACHE_DIR"
SIZE_VARIABLE: Final = "NODEGRAPH_CACHE_SIZE"
MODELS_VARIABLE: Final = "NODEGRAPH_MODELS"
MODEL_MEMORY_VARIABLE: Final = "NODEGRAPH_MODEL_MEMORY"
PLUGIN_DIR_VARIABLE: Final = "NODEGRAPH_PLUGIN_DIR"
VERIFY_VARIABLE: Final = "NODEGRAPH_VERIFY"
STALL_VARIABLE: Final = "NODEGRAPH_STALL"
REMOTE_VARIABLE: Final = "NODEGRAPH_CACHE_REMOTE"
REMOTE_ACCESS_VARIABLE: Final = "NODEGRAPH_CACHE_REMOTE_ACCESS"
REMOTE_KEY_VARIABLE: Final = "NODEGRAPH_CACHE_REMOTE_KEY"  # a secret: it is in no file, and `nodegraph config` does not show it
INLINE_VARIABLE: Final = "NODEGRAPH_INLINE"

INLINE: Final = ("auto", "never", "kitty", "iterm", "sixel")
"""Whether a terminal shows outputs: if it can, never, or with the protocol of this name."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting. `name` is its table and its name in it, such as "cache.dir"; `expected` says what a file may hold.

    Without `in_project`, only the user may choose it: a workflow from elsewhere must not run code, nor choose whose results count.
    """

    name: str
    variable: str
    default: str
    expected: str
    help: str
    in_project: bool = True

    @property
    def table(self) -> str:
        """The table in a file."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """The name in that table."""
        return self.name.partition(".")[2]


_SIZE: Final = 'a size such as "20 GB", a number of bytes, or "unlimited"'
_FOLDERS: Final = 'a list of paths, such as ["~/models"]'

SETTINGS: Final = {
    setting.name: setting
    for setting in (
        Setting(
            name="cache.dir",
            variable=DIRECTORY_VARIABLE,
            default="the platform's cache folder",
            expected="a path in quotes",
            help="the folder of the cache",
        ),
        Setting(name="cache.size", variable=SIZE_VARIABLE, default="20 GB", expected=_SIZE, help="how much the cache may hold"),
        Setting(
            name="cache.remote",
            variable=REMOTE_VARIABLE,
            default="none",
            expected='an address such as "s3://bucket/prefix", or "none"',
            help="the shared store behind the cache",
            in_project=False,
        ),
        Setting(
            name="cache.remote_access",
            variable=REMOTE_ACCESS_VARIABLE,
            default="write",
            expected='"write" or "read"',
            help="whether results are written to the shared store, too",
            in_project=False,
        ),
        Setting(name="models.dirs", variable=MODELS_VARIABLE, default="none", expected=_FOLDERS, help="folders of your models"),
        Setting(
            name="models.memory",
            variable=MODEL_MEMORY_VARIABLE,
            default="half of the machine's memory",
            expected=_SIZE,
            help="how much memory loaded models may occupy",
        ),
        Setting(
            name="plugins.dirs",
            variable=PLUGIN_DIR_VARIABLE,
            default="none",
            expected=_FOLDERS,
            help="folders of plugins",
            in_project=False,
        ),
        Setting(
            name="run.verify",
            variable=VERIFY_VARIABLE,
            default="0",
            expected="a number from 0 to 1, such as 0.01",
            help="the share of cached results that a run computes again and compares",
        ),
        Setting(
            name="run.stall",
            variable=STALL_VARIABLE,
            default="never",
            expected="a number of seconds from 0.1 to 86400, such as 60",
            help="after how many seconds without progress a run prints what its threads do",
        ),
        Setting(
            name="run.inline",
            variable=INLINE_VARIABLE,
            default="auto",
            expected="auto, never, kitty, iterm or sixel",
            help="whether the terminal shows outputs: if it can, never, or with the protocol of this name",
        ),
    )
}
