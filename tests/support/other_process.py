"""Other processes that use a store, for tests: they run Python text with an open store."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

HEAD = """
import os, sys, time
from pathlib import Path
from nodegraph.cache.store.store import Record, Store, StoredValue

directory = Path(sys.argv[1])
warnings = []
store = Store(directory, warn=warnings.append)

def say(text):
    print(text, flush=True)

def keep(key, data, name="node"):
    blob, size = store.put_bytes(data, ".bin")
    outputs = {"output": StoredValue("d" * 64, blob, "json", size)}
    created = time.time()
    store.put_record(Record(key=key, type="Type", workflow="workflow", node=name, created=created, seconds=0.1, outputs=outputs))

"""


def start(folder: Path, code: str, *args: str) -> subprocess.Popen[str]:
    """Start a process that runs `code`; `args` are its sys.argv[2:]."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(code), str(folder), *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Wait until the process prints `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == text:
            return
    raise AssertionError(f"the process ended with {process.wait()} before it wrote '{text}'")


def kill(process: subprocess.Popen[str]) -> None:
    """End the process by SIGKILL, and wait until it is gone."""
    process.kill()
    process.communicate()


def end(process: subprocess.Popen[str]) -> str:
    """Wait until the process has succeeded; returns its output."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.strip()
