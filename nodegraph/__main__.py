"""`python -m nodegraph` is `nodegraph`."""

from __future__ import annotations

from nodegraph.cli import main

if __name__ == "__main__":
    main(prog_name="nodegraph")
