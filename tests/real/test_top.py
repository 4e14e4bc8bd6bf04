"""`hearthgate top` in a terminal of its own: drawn, obeyed, and given back as it was."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import ECHO_HOST
from echo import Echo
from gate import BINARY, Gate
from waiting import wait_for

_BANNED = "203.0.113.0/24"
_OTHER_SCREEN, _FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A pseudo-terminal with `hearthgate top` in it."""

    def __init__(self, gate: Gate, columns: int = 80, lines: int = 24) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines)
        self._before = termios.tcgetattr(self._theirs)
        command = [BINARY, "top", "--config", gate.file]
        self.process = subprocess.Popen(
            command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env={**os.environ, "TERM": "xterm-256color"}
        )
        self.shown = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def told(self) -> None:
        """The program hears of the new size as from a terminal emulator."""
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read(self) -> bytes:
        while select.select([self._ours], [], [], 0.05)[0]:
            self.shown += os.read(self._ours, 65536)
        return self.shown

    def shows(self, *words: str) -> None:
        wait_for(f"{words} on the screen", lambda: all(word.encode() in self.read() for word in words), 20)

    def end(self, seconds: float = 10) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        self.read()
        return self.process.wait(1)

    def is_as_it_was(self) -> bool:
        back = self.shown.rfind(_FIRST_SCREEN) > self.shown.rfind(_OTHER_SCREEN) >= 0
        return back and termios.tcgetattr(self._theirs) == self._before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture(scope="module")
def watched_gate(_gates: Callable[..., Gate], echo: Echo, host_entry: Callable[..., dict]) -> Gate:
    gate = _gates("top", {ECHO_HOST: host_entry(echo.url, "generic")})
    gate.bans("add", _BANNED, "--for", "1h", "--reason", "scans")
    return gate


@pytest.fixture
def terminal(watched_gate: Gate) -> Iterator[Terminal]:
    terminal = Terminal(watched_gate)
    yield terminal
    terminal.close()


def test_it_shows_the_gate_and_ends_with_q(terminal: Terminal) -> None:
    terminal.shows("Is the door open?", ECHO_HOST, "Who knocks?", _BANNED, "How does it feel?", "q quit")
    terminal.press("q")
    assert terminal.end() == 0
    assert terminal.is_as_it_was()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(terminal: Terminal, number: signal.Signals) -> None:
    terminal.shows("q quit")
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    assert terminal.is_as_it_was()


def test_another_size_is_drawn_anew(terminal: Terminal) -> None:
    terminal.shows("q quit")
    terminal.shown = b""
    terminal.resize(120, 40)
    terminal.told()
    terminal.shows("q quit", "Turned away lately")
    assert b"\x1b[40;" in terminal.shown


def test_a_gate_that_goes_is_said_and_a_new_one_is_found(terminal: Terminal, watched_gate: Gate) -> None:
    terminal.shows("q quit")
    watched_gate.stop()
    terminal.shows("not the newest")
    terminal.shown = b""
    watched_gate.restart()
    terminal.shows("All is well")


def test_a_ban_is_lifted_after_a_yes(terminal: Terminal, watched_gate: Gate) -> None:
    terminal.shows(_BANNED)

    def bans() -> int:
        return json.loads(watched_gate.bans("list", "--json"))["total"]

    terminal.press("u")
    terminal.shows("Lift the ban of")
    terminal.press("n")
    terminal.press("u")
    assert bans() == 1
    terminal.press("y")
    wait_for("no ban", lambda: bans() == 0, 20)
    terminal.shows("nobody is banned")


def test_without_a_gate_the_terminal_is_left_alone(tmp_path, watched_gate: Gate) -> None:
    command = [BINARY, "top", "--socket", tmp_path / "none.sock"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 1
    assert "no gate is running" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
