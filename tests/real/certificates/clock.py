"""A clock that a test sets, for one gate: libfaketime between it and the system. Timers still run as they do."""

import subprocess
from pathlib import Path


class Clock:
    def __init__(self, file: Path) -> None:
        self._file, self._ahead = file, 0
        file.write_text("+0")
        found = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=True).stdout
        library = next(line for line in found.splitlines() if line.endswith("/libfaketimeMT.so.1"))
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def forward(self, seconds: float) -> None:
        """From now on it is so much later."""
        self._ahead += int(seconds)
        new = self._file.with_suffix(".new")
        new.write_text(f"+{self._ahead}")
        new.replace(self._file)

    @property
    def ahead(self) -> int:
        """Of the system's clock, in seconds."""
        return self._ahead
