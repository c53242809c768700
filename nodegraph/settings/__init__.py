"""Settings: from a flag, the environment, the project's file, the user's file, or the default. The first that has one counts.

The user's file is `config.toml` in the user's configuration folder (`~/.config/nodegraph/` on Linux). A project's file is called
`nodegraph.toml` and is beside the workflow, or in a folder above it. Both look like this:

    [cache]
    dir = "cache"                       # a relative path starts at the folder of the file
    size = "50 GB"                      # or a number of bytes, or "unlimited"

    [models]
    dirs = ["~/models", "~/ComfyUI/models"]
"""

from nodegraph.settings.files import (
    NO_PROJECT,
    PROJECT_FILE,
    PROJECT_VARIABLE,
    nearest_project,
    project_file,
    settings_read_once,
    user_file,
)
from nodegraph.settings.names import (
    DIRECTORY_VARIABLE,
    INLINE,
    INLINE_VARIABLE,
    MODEL_MEMORY_VARIABLE,
    MODELS_VARIABLE,
    PLUGIN_DIR_VARIABLE,
    REMOTE_ACCESS_VARIABLE,
    REMOTE_KEY_VARIABLE,
    REMOTE_VARIABLE,
    SETTINGS,
    SIZE_VARIABLE,
    STALL_VARIABLE,
    VERIFY_VARIABLE,
    Setting,
)
from nodegraph.settings.remote import NO_REMOTE, Remote
from nodegraph.settings.sizes import UNLIMITED, parse_size, written_size
from nodegraph.settings.values import (
    DEFAULT_SIZE,
    Found,
    Settings,
    effective,
    load_inline,
    load_model_memory,
    load_remote,
    load_settings,
    load_stall_seconds,
    load_verify_share,
    model_dirs,
    plugin_dirs,
)

__all__ = [
    "DEFAULT_SIZE",
    "DIRECTORY_VARIABLE",
    "INLINE",
    "INLINE_VARIABLE",
    "MODELS_VARIABLE",
    "MODEL_MEMORY_VARIABLE",
    "NO_PROJECT",
    "NO_REMOTE",
    "PLUGIN_DIR_VARIABLE",
    "PROJECT_FILE",
    "PROJECT_VARIABLE",
    "REMOTE_ACCESS_VARIABLE",
    "REMOTE_KEY_VARIABLE",
    "REMOTE_VARIABLE",
    "SETTINGS",
    "SIZE_VARIABLE",
    "STALL_VARIABLE",
    "UNLIMITED",
    "VERIFY_VARIABLE",
    "Found",
    "Remote",
    "Setting",
    "Settings",
    "effective",
    "load_inline",
    "load_model_memory",
    "load_remote",
    "load_settings",
    "load_stall_seconds",
    "load_verify_share",
    "model_dirs",
    "nearest_project",
    "parse_size",
    "plugin_dirs",
    "project_file",
    "settings_read_once",
    "user_file",
    "written_size",
]
