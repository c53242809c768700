"""Input files whose times do not show a change: preserved, rounded by the file system, or set by a clock that went back."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import files
from nodegraph.cache.file_digests import FileDigests, hash_file
from nodegraph.files import FileState

SECOND = 1_000_000_000


def keep_times(path: Path, write: Callable[[], object]) -> None:
    before = path.stat()
    write()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_over(path: Path) -> None:
    """What `cp -p` does."""
    other = path.with_name("other")
    other.write_text("two")
    shutil.copystat(path, other)
    path.write_bytes(other.read_bytes())
    shutil.copystat(other, path)


def replace_by(path: Path) -> None:
    """What `rsync -t` does."""
    other = path.with_name("other")
    other.write_text("two")
    shutil.copystat(path, other)
    other.replace(path)


PRESERVED: dict[str, Callable[[Path], object]] = {
    "touch -r": lambda path: keep_times(path, lambda: path.write_text("two")),
    "cp -p": copy_over,
    "rsync -t": replace_by,
}


@pytest.mark.parametrize("change", PRESERVED.values(), ids=PRESERVED)
def test_file_with_the_same_size_and_time_of_change_is_read_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    os.utime(path, (1, 1))
    digests = FileDigests(tmp_path / "memo", granularity_ns=0)
    assert digests.sha256(path) == hash_file(path)
    files_before = FileState.of(path)
    change(path)
    assert (files_before.size, files_before.mtime_ns) == (FileState.of(path).size, FileState.of(path).mtime_ns)
    assert FileDigests(tmp_path / "memo", granularity_ns=0).sha256(path) == hash_file(path)


class Clock:
    """A file system that rounds times down, or up, to `step_ns` and has no time of change, such as FAT; and the time of day."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_ns: int, *, up: bool) -> None:
        self.now_ns = 1_000_000 * SECOND + 700_000_000
        self._written: dict[str, int] = {}
        self._step_ns, self._up = step_ns, up
        monkeypatch.setattr(files.time, "time_ns", lambda: self.now_ns)
        monkeypatch.setattr(FileState, "of", classmethod(lambda cls, path: self._state(Path(path))))

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)
        steps = -(-self.now_ns // self._step_ns) if self._up else self.now_ns // self._step_ns
        self._written[str(path)] = steps * self._step_ns

    def _state(self, path: Path) -> FileState:
        written = self._written[str(path)]
        return FileState(device=1, inode=1, size=path.stat().st_size, mtime_ns=written, ctime_ns=written)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("step_seconds", [1, 2])
@pytest.mark.parametrize("first_look", [0.0, 0.5, 1.9, 2.1, 5.0])
@pytest.mark.parametrize("second_write", [0.001, 0.5, 1.5, 2.5])
def test_coarse_times_hide_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, step_seconds: int, first_look: float, second_write: float, up: bool
) -> None:
    """Whenever a file is looked at and then written again, the next look sees the new content."""
    clock, path = Clock(monkeypatch, step_seconds * SECOND, up=up), tmp_path / "file"
    digests = FileDigests(tmp_path / "memo")
    clock.write(path, "one")
    clock.now_ns += int(first_look * SECOND)
    assert digests.sha256(path) == hash_file(path)
    clock.now_ns += int(second_write * SECOND)
    clock.write(path, "two")
    assert digests.sha256(path) == hash_file(path)
    clock.now_ns += 10 * SECOND
    assert digests.sha256(path) == hash_file(path)


def test_clock_that_was_set_back_before_the_file_is_looked_at_hides_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = Clock(monkeypatch, 2 * SECOND, up=False), tmp_path / "file"
    digests = FileDigests(tmp_path / "memo")
    clock.write(path, "one")
    clock.now_ns -= 3600 * SECOND
    assert digests.sha256(path) == hash_file(path)
    path.write_text("two")  # with the same times: the file is from the future
    assert digests.sha256(path) == hash_file(path)


def test_file_system_without_a_time_of_change_hides_a_change_whose_time_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not noticed: on FAT, nothing but the content differs."""
    clock, path = Clock(monkeypatch, 2 * SECOND, up=False), tmp_path / "file"
    digests = FileDigests(tmp_path / "memo")
    clock.write(path, "one")
    clock.now_ns += 3600 * SECOND
    before = digests.sha256(path)
    path.write_text("two")
    assert digests.sha256(path) == before


def test_second_write_through_a_map_is_not_noticed_before_it_is_flushed(tmp_path: Path) -> None:
    """The first write to a page sets the times of the file; the next ones do not, until the page is on the disk."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    digests = FileDigests(tmp_path / "memo", granularity_ns=0)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 3) as pages:
        pages[:] = b"two"
        state, digest = FileState.of(path), digests.sha256(path)
        pages[:] = b"six"
        if FileState.of(path) != state or digests.sha256(path) != digest:
            pytest.skip("the page was written to the disk in between")
        pages.flush()
        pages[:] = b"ten"
        pages.flush()
    os.utime(path)
    assert digests.sha256(path) == hash_file(path)
