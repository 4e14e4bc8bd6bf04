"""A server of somebody else's making, started for a test and ended with it."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from waiting import wait_for


class Part:
    """One process. What it prints is kept in `log`, line by line, with the moment at which it came."""

    def __init__(self, command: list[object], directory: Path, environment: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._name = Path(str(command[0])).name
        self._file = directory / f"{self._name}.log"
        self.lines: list[tuple[float, str]] = []
        self._process = subprocess.Popen(
            [str(word) for word in command], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ | (environment or {}),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with open(self._file, "a", buffering=1) as file:
            for line in self._process.stdout:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                file.write(line)

    def wait_until(self, what: str, is_so: Callable[[], bool], seconds: float = 20) -> None:
        """Waits for `what`; fails at once if the process has ended."""

        def look() -> bool:
            assert self._process.poll() is None, f"{self._name} ended:\n" + "\n".join(self.last())
            return is_so()

        wait_for(f"{self._name}: {what}", look, seconds)

    def last(self, number: int = 15) -> list[str]:
        return [line for _, line in self.lines[-number:]]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join(5)
