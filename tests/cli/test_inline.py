"""Outputs in the terminal: in those that can, never elsewhere, and with nothing left in the input; and `--open`."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from nodegraph.cli import main
from nodegraph.cli.inline import outputs
from nodegraph.cli.inline.protocol import protocol
from nodegraph.cli.inline.question import takes_sixel
from nodegraph.cli.viewer import find_viewer
from nodegraph.plugins.backend import CpuBackend
from nodegraph_nodes.models.backend import TorchBackend
from nodegraph_nodes.pictures.formats import Png
from tests.support.sixel import decode_sixel

XTERM = {"TERM": "xterm-256color"}
CAN = b"\x1b[?62;4;22c"
CANNOT = b"\x1b[?64;14;40;42c"  # 4 is a part of other numbers only


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({**XTERM, "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({**XTERM, "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({**XTERM, "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({**XTERM, "TERM_PROGRAM": "WezTerm"}, "iterm"),
        (XTERM, "asked"),
        ({**XTERM, "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, "asked"),  # VS Code was started from kitty
        ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux", "TERM_PROGRAM": "iTerm.app"}, "asked"),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, "asked"),  # tmux elsewhere, before ssh
        ({"TERM": "xterm-kitty", "ZELLIJ": "0"}, "asked"),
        ({"TERM": "xterm-kitty", "CI": "true"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "kitty"),  # empty is not set (no-color.org)
        ({"TERM": "dumb"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_protocol_of_a_terminal(environment, expected):
    asked = []
    found = protocol(environment, lambda: bool(asked.append(True)))
    assert ("asked" if asked else found) == expected
    assert protocol(environment, lambda: True) == ("sixel" if expected == "asked" else expected)


# --- the question


class Pty:
    """A terminal that answers, and what it received."""

    def __init__(self, answer: bytes, *, cell: tuple[int, int] = (8, 16)) -> None:
        import fcntl
        import pty
        import termios

        self.terminal, self.program = pty.openpty()
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 100 * cell[0], 40 * cell[1]))
        self.received = b""
        self._answer, self._answers = answer, 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Pty:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.program)
        self._thread.join()
        os.close(self.terminal)

    def _serve(self) -> None:
        while True:
            try:
                self.received += os.read(self.terminal, 65536)
            except OSError:  # the program has closed it
                return
            if self.received.count(b"\x1b[c") > self._answers:
                self._answers += 1
                os.write(self.terminal, self._answer)

    def left(self) -> bytes:
        """What a shell would read afterwards, also a line that is not complete."""
        import select
        import termios

        attributes = termios.tcgetattr(self.program)
        attributes[3] &= ~termios.ICANON
        termios.tcsetattr(self.program, termios.TCSANOW, attributes)
        return os.read(self.program, 1000) if select.select([self.program], [], [], 0.05)[0] else b""


posix = pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")


@pytest.fixture
def in_foreground(monkeypatch):
    """The terminals of these tests do not control the process."""
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())


@posix
@pytest.mark.parametrize(
    ("answer", "expected", "left"),
    [
        (CAN, True, b""),
        (CANNOT, False, b""),
        (b"\x1b[?4c", True, b""),
        (CAN + b"ls", True, b"ls"),  # typed after the answer: for the shell
        (b"\x1b[?62;4;", False, b""),  # the rest never comes
        (b"", False, b""),
    ],
    ids=str,
)
def test_terminal_is_asked_and_nothing_is_left_in_its_input(in_foreground, answer, expected, left):
    import termios

    with Pty(answer) as terminal:
        before = termios.tcgetattr(terminal.program)
        assert takes_sixel(terminal.program, 0.2 if answer.endswith((b";", b"")) and not expected else 30) is expected
        assert termios.tcgetattr(terminal.program) == before
        assert terminal.left() == left


@posix
def test_terminal_is_not_asked_in_the_background_or_when_something_was_typed(monkeypatch):
    with Pty(CAN) as terminal:
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
        assert takes_sixel(terminal.program) is False
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        os.write(terminal.terminal, b"ls -l")
        time.sleep(0.05)
        assert takes_sixel(terminal.program) is False
        assert terminal.left() == b"ls -l"
    assert b"\x1b[c" not in terminal.received


@posix
def test_a_file_or_a_pipe_is_not_asked(tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert takes_sixel(file.fileno()) is False


# --- what is shown


class WordsBackend(CpuBackend):
    """Shows the names of files."""

    def inline(self, path, terminal):
        if path.name == "broken":
            raise ValueError("it is damaged")
        return None if path.suffix else f"<{path.name} {terminal.protocol} {terminal.width}x{terminal.height}>"


@pytest.fixture
def cell() -> tuple[int, int]:
    """The size of a character in dots, as the terminal tells it."""
    return 8, 16


@pytest.fixture
def on_terminal(monkeypatch, cell):
    """Makes stdout a terminal of 100 x 40 characters, and returns it; called in the test, as pytest sets stdout after fixtures."""
    with Pty(CAN, cell=cell) as terminal:
        stdout = io.StringIO()
        stdout.isatty = lambda: True
        stdout.fileno = lambda: terminal.program
        for name in ("TMUX", "STY", "ZELLIJ", "CI", "NO_COLOR", "TERM_PROGRAM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-kitty")

        def begin() -> io.StringIO:
            monkeypatch.setattr(sys, "stdout", stdout)
            return stdout

        yield begin


@posix
@pytest.mark.parametrize(
    ("choice", "environment", "expected"),
    [
        ("auto", {}, "<out kitty 800x320>\n"),
        ("never", {}, ""),
        ("auto", {"CI": "1"}, ""),
        ("iterm", {"CI": "1", "NO_COLOR": "1"}, "<out iterm 800x320>\n"),
    ],
)
def test_outputs_are_shown_as_the_user_chose(on_terminal, monkeypatch, choice, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stdout = on_terminal()
    with outputs.inline_outputs(choice, WordsBackend()) as show:
        show(Path("out"))
    assert stdout.getvalue() == expected


@posix
def test_at_most_four_outputs_are_shown_and_one_that_is_broken_is_a_note(on_terminal, capsys):
    stdout = on_terminal()
    with outputs.inline_outputs("kitty", WordsBackend()) as show:
        for name in ("words.json", "broken", *"abcdef"):
            show(Path(name))
    assert re.findall("<(\\w+)", stdout.getvalue()) == [*"abcd"]
    assert capsys.readouterr().err.splitlines() == [
        "note: broken cannot be shown: it is damaged",
        "note: the terminal shows the first 4 outputs, and not the other 2",
    ]


@posix
@pytest.mark.parametrize("cell", [(0, 0)])
def test_a_terminal_that_does_not_tell_the_size_of_its_characters(on_terminal):
    stdout = on_terminal()
    with outputs.inline_outputs("sixel", WordsBackend()) as show:
        show(Path("out"))
    assert stdout.getvalue() == "<out sixel 1000x400>\n"


def test_elsewhere_nothing_is_shown(capsys):
    with outputs.inline_outputs("kitty", WordsBackend()) as show:
        show(Path("out"))
    assert capsys.readouterr().out == ""


@posix
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "PATH\n<shown>\n"),
        (("--inline", "never"), "PATH\n"),
        (("--quiet",), "PATH\n"),
        (("--json",), '{"'),
    ],
    ids=str,
)
def test_run_shows_its_outputs(cli, greeting, on_terminal, monkeypatch, words, expected):
    monkeypatch.setattr(TorchBackend, "inline", lambda self, path, terminal: "<shown>")
    for name, value in cli.env.items():
        monkeypatch.setenv(name, value)
    stdout = on_terminal()
    main(["run", str(greeting), "--out", "made", *words], standalone_mode=False)
    written = stdout.getvalue().replace(str(Path("made", "greeting-result.json")), "PATH")
    assert written.startswith(expected)
    assert ("<shown>" in written) == ("<shown>" in expected)


@posix
@pytest.mark.parametrize(("words", "shows"), [((), True), (("--inline", "never"), False), (("--json",), False)], ids=str)
def test_sweep_shows_the_outputs_of_its_first_points(cli, greeting, on_terminal, monkeypatch, capsys, words, shows):
    monkeypatch.setattr(TorchBackend, "inline", lambda self, path, terminal: f"<{path.name}>")
    for name, value in cli.env.items():
        monkeypatch.setenv(name, value)
    stdout = on_terminal()
    main(["sweep", str(greeting), "--over", "word=a,b,c,d,e", "--out", "made", *words], standalone_mode=False)
    shown = [f"<{number:04}-greeting-result.json>" for number in range(1, 5)]
    assert re.findall("<[^>]*>", stdout.getvalue()) == (shown if shows else [])
    assert ("note: the terminal shows the first 4 outputs, and not the other 1" in capsys.readouterr().err) == shows


@posix
@pytest.mark.slow
def test_sweep_shows_and_opens_its_sheet_instead_of_its_points(cli, on_terminal, viewer, monkeypatch):
    monkeypatch.setattr(TorchBackend, "inline", lambda self, path, terminal: f"<{path.name}>")
    for name, value in cli.env.items():
        monkeypatch.setenv(name, value)
    for name in "ab":
        pillow.new("RGB", (8, 8), (90, 0, 0)).save(cli.folder / f"{name}.png")
    file = cli.write("nodegraph: 1\nnodes: {made: {use: LoadImage, path: a.png}}\noutputs: {picture: {from: $made.image}}\n")
    stdout = on_terminal()
    main(["sweep", str(file), "--over", "made.path=a.png,b.png", "--out", "made", "--sheet", "--open"], standalone_mode=False)
    assert re.findall("<[^>]*>", stdout.getvalue()) == ["<sheet.png>"]
    assert opened(viewer) == [str(Path("made/sheet.png").absolute())]


def test_setting_says_whether_outputs_are_shown(cli, greeting):
    (cli.folder / "nodegraph.toml").write_text("[run]\ninline = 'never'\n")
    found = cli("config", greeting, "--json").json["settings"]["run.inline"]
    assert found["value"] == "never"
    assert found["from"] == str(cli.folder / "nodegraph.toml")
    ran = cli("run", greeting, env={"NODEGRAPH_INLINE": "always"})
    assert ran.exit_code == 2
    assert ran.stderr.splitlines()[-1] == (
        "[E401] NODEGRAPH_INLINE cannot be used: expected auto, never, kitty, iterm or sixel, found 'always'"
    )
    assert cli("run", greeting, "--inline", "sixel", env={"NODEGRAPH_INLINE": "always"}).exit_code == 0


# --- the whole


def picture_of_another_program(folder: Path) -> tuple[Path, np.ndarray]:
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[2:6, 3:9] = (255, 0, 0)
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, format="PNG")
    path = folder / "house.png"
    path.write_bytes(Png().embed(file.getvalue(), {"parameters": "a house\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 20x12"}))
    return path, pixels


@posix
def test_a_terminal_receives_the_picture_and_keeps_nothing_in_its_input(cli, tmp_path):
    path, pixels = picture_of_another_program(tmp_path)

    def control() -> None:
        import fcntl
        import termios

        fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    unset = dict.fromkeys(
        ("CI", "NO_COLOR", "TMUX", "STY", "ZELLIJ", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "WEZTERM_PANE")
    )
    with Pty(CAN) as terminal:
        streams = {"stdin": terminal.program, "stdout": terminal.program, "stderr": terminal.program}
        cli.env |= {"TERM": "foot"} | dict.fromkeys(unset, "")
        with cli.process("show", path, **streams, start_new_session=True, preexec_fn=control) as process:
            assert process.wait(300) == 0
        assert terminal.left() == b""
    text = terminal.received.decode().replace("\r\n", "\n")
    written, _, drawn = text.partition("\x1bP")
    assert written.startswith(f"{path}: made by AUTOMATIC1111\n")
    assert written.count("\x1b") == written.count("\x1b[c") == 1
    factor = min(800 // 20, 320 // 12)
    larger = pixels.repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(decode_sixel(f"\x1bP{drawn}".removesuffix("\n")).pixels, larger * (100 / 255))


# --- the system's viewer


@pytest.fixture
def viewer(monkeypatch, tmp_path):
    """A program `xdg-open` that writes down what it opens, and ends with the status in the file `status`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" >> {folder}/opened\nexit $(cat {folder}/status)\n')
    program.chmod(0o755)
    (folder / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    return folder


def opened(viewer: Path) -> list[str]:
    return sorted((viewer / "opened").read_text().splitlines())


@posix
def test_open_shows_outputs_in_the_viewer(cli, greeting, viewer):
    ran = cli("run", greeting, "--open")
    assert ran.exit_code == 0, ran.stderr
    assert opened(viewer) == [str(Path(ran.stdout.strip()).absolute())]
    assert cli("runs", "rerun", "last", "--open", "--json").exit_code == 0
    assert opened(viewer) == [str(Path(ran.stdout.strip()).absolute())] * 2


@posix
def test_open_shows_the_outputs_of_a_sweep(cli, greeting, viewer):
    ran = cli("sweep", greeting, "--over", "word=a,b", "--open")
    assert ran.exit_code == 0, ran.stderr
    assert opened(viewer) == [str(Path(line).absolute()) for line in ran.stdout.split()]
    assert len(opened(viewer)) == 2
    (viewer / "opened").unlink()
    assert cli("sweep", greeting, "--over", "word=1..9", "--open").exit_code == 0
    assert opened(viewer) == [str(Path("out").absolute())]  # more would be as many windows


@posix
def test_many_outputs_are_opened_as_their_folder(viewer, tmp_path):
    find_viewer().open([tmp_path / f"{number}.png" for number in range(9)])
    assert opened(viewer) == [str(tmp_path)]


@posix
def test_open_shows_the_graph_of_a_workflow_and_the_file_of_an_output(cli, greeting, viewer, tmp_path):
    path, _ = picture_of_another_program(tmp_path)
    assert cli("show", path, "--open").exit_code == 0
    ran = cli("show", greeting, "--open")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith("greeting: Say it twice")
    (drawing,) = [Path(name) for name in opened(viewer) if name != str(path)]
    assert drawing.name == "greeting.svg"
    assert "twice" in drawing.read_text()
    shutil.rmtree(drawing.parent)


@posix
def test_a_viewer_that_fails_is_an_error_and_the_outputs_stay(cli, greeting, viewer):
    (viewer / "status").write_text("3")
    ran = cli("run", greeting, "--open")
    assert ran.exit_code == 1
    path = Path(ran.stdout.strip())
    assert path.is_file()
    assert ran.stderr.splitlines()[-1] == (
        f"[E214] {path.absolute()} cannot be opened: xdg-open ended with status 3. Open it yourself, or leave out --open"
    )


@posix
def test_without_a_viewer_nothing_runs(cli, greeting, viewer, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    ran = cli("run", greeting, "--open")
    assert ran.exit_code == 2
    assert "--open needs a desktop, and there is neither DISPLAY nor WAYLAND_DISPLAY. Leave out --open." in ran.stderr
    monkeypatch.setenv("PATH", str(cli.folder))
    ran = cli("show", greeting, "--open")
    assert ran.exit_code == 2
    assert "--open needs the program xdg-open. Install the package xdg-utils, or leave out --open." in ran.stderr
    assert not (viewer / "opened").exists()
