"""A real Home Assistant of its own for one run of the tests, started by `home-assistant/start`."""

import itertools
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from ports import free_port
from waiting import wait_for

_SCRIPTS = Path(__file__).parent / "home-assistant"
_sentinels = itertools.count()


class HomeAssistant:
    """One instance, fresh and onboarded; `stop` and `start` keep its users and tokens."""

    def __init__(self, release: str, name: str, *options: str) -> None:
        self._release = release
        self._instance = f"{name}-{os.getpid()}"
        self._port = free_port()
        self._facts: dict = {}
        self.start("--fresh", *options)

    def start(self, *options: str) -> None:
        command = [_SCRIPTS / "start", "--release", self._release, "--port", self._port, "--instance", self._instance]
        done = subprocess.run([*map(str, command), *options], stdout=subprocess.PIPE, text=True, timeout=900)
        assert done.returncode == 0, f"Home Assistant did not start: status {done.returncode}"
        self._facts = json.loads(done.stdout)

    def stop(self) -> None:
        subprocess.run([_SCRIPTS / "stop", str(self._facts["pid"])], check=True, timeout=60)

    def forget(self) -> None:
        """Ends it and removes everything it has written."""
        self.stop()
        shutil.rmtree(self.config_directory.parent)

    @property
    def url(self) -> str:
        return self._facts["base_url"]

    @property
    def version(self) -> str:
        return self._facts["version"]

    @property
    def user(self) -> str:
        return self._facts["user"]

    @property
    def password(self) -> str:
        return self._facts["password"]

    @property
    def token(self) -> str:
        """The owner's long-lived access token."""
        return self._facts["long_lived_token"]

    @property
    def second_factor_user(self) -> dict[str, str]:
        """Name (`user`), `password` and TOTP `secret` of one who is no administrator."""
        return self._facts["totp"]

    @property
    def camera(self) -> tuple[str, str]:
        """The push camera's entity and the webhook that sets its picture."""
        return self._facts["camera_entity"], self._facts["camera_webhook"]

    @property
    def config_directory(self) -> Path:
        return Path(self._facts["config_dir"])

    @property
    def upload_directory(self) -> Path:
        """Where `/api/file_upload` keeps what it was given: `<file id>/<name>`."""
        return self.config_directory.parent / "tmp" / "home-assistant-file_upload"

    def log_line(self, marker: str) -> str:
        """The line of the log that holds `marker`, as soon as it is there."""

        def look() -> str | None:
            return next((line for line in self._log() if marker in line), None)

        return wait_for(f"a line with {marker!r} in Home Assistant's log", look)

    def failures_of(self, address: str) -> int:
        return self.failures()[address]

    def failures(self) -> Counter[str]:
        """How many requests and messages Home Assistant has refused and counted as attempts to log in, by client."""
        # The log is written by a thread: when a later refusal is there, so are the earlier ones.
        marker = f"sentinel{next(_sentinels)}x"
        request = urllib.request.Request(f"{self.url}/api/?{marker}", headers={"Authorization": "Bearer sentinel"})
        try:
            urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as refusal:
            assert refusal.code == 401, refusal
        self.log_line(marker)
        client = re.compile(r"Login attempt or request with invalid authentication from \S+ \(([^)]+)\)\. Requested URL")
        return Counter(found[1] for line in self._log() if (found := client.search(line)))

    def _log(self) -> list[str]:
        return Path(self._facts["log"]).read_text(errors="replace").splitlines()
