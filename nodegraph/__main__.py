"""The command `nodegraph`, also as `python -m nodegraph`."""

from __future__ import annotations

import sys

from nodegraph import gc_pause

INTERRUPTED = 130


def main() -> None:
    """Run the command line, and exit with its status. Ctrl-C while modules are imported is no traceback either."""
    gc_pause.pause_at_start()
    try:
        from nodegraph.cli import main as command_line

        command_line(prog_name="nodegraph")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted\n")
        sys.exit(INTERRUPTED)
    finally:
        gc_pause.skip_at_exit()


if __name__ == "__main__":
    main()
