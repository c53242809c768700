"""The heavy modules that a command imports, and modules that a test imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "networkx", "numpy", "PIL", "rich", "transformers", "sqlite3")


def imported_by(cli, *commands):
    """The heavy modules that each of these commands imports: their names by its words, for those that import any.

    The commands run one after another in one process, so a module is counted for the first command that imports it.
    """
    found = [names & {*HEAVY} for names in modules_of(cli, *commands)]
    return {" ".join(map(str, words)): names for words, names in zip(commands, found, strict=True) if names}


def modules_of(cli, *commands):
    """The names of the modules that each of these commands imports in addition to those before it, all in one process."""
    code = (
        "import sys\nseen = set(sys.modules)\nfrom nodegraph.cli import main\n"
        f"for words in {[[str(word) for word in words] for words in commands]!r}:\n"
        "    try:\n        main(words, prog_name='nodegraph')\n"
        "    except SystemExit as end:\n        assert not end.code, (words, end.code)\n"
        "    new = [name for name in sys.modules if name not in seen]\n"
        "    seen.update(new)\n"
        "    print('IMPORTED', new)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **cli.env},
        cwd=cli.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = [ast.literal_eval(line.removeprefix("IMPORTED ")) for line in ran.stdout.splitlines() if line.startswith("IMPORTED ")]
    assert len(found) == len(commands)
    return [set(names) for names in found]


def forget_modules_in(folder: Path) -> None:
    """Let Python forget the modules that it has imported from a folder. Libraries stay: they must not be imported twice.

    So does the program: a test may have given it another file.
    """
    for name, module in list(sys.modules.items()):
        if name != "__main__" and str(getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
