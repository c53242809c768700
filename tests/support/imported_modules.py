"""The heavy modules that a command imports."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ("torch", "networkx", "numpy", "PIL", "rich", "transformers", "sqlite3")


def imported_by(cli, *args):
    """The heavy modules that a command leaves in sys.modules."""
    code = (
        "import sys\nfrom nodegraph.cli import main\n"
        f"try:\n    main({[str(a) for a in args]!r}, prog_name='nodegraph')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('IMPORTED', *(name for name in {HEAVY!r} if name in sys.modules))\n"
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
    return set(ran.stdout.splitlines()[-1].split()[1:])
