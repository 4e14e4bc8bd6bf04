"""One Hearthgate process: its configuration, its life, and what can be seen of it from outside."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from ports import free_port
from waiting import wait_for

_ROOT = Path(__file__).resolve().parents[2]
_TARGET = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
BINARY = Path(os.environ.get("HEARTHGATE_BINARY", _TARGET / "release" / "hearthgate"))

# For load that comes from a handful of addresses, faster than any household asks.
NO_RATE_LIMITS = {"rate_limits": {name: "off" for name in ("static", "page", "api", "auth", "webhook", "websocket")}}


class Gate:
    """A gate on ports of its own. `config` is what its file will say; change it, `write` it, reload."""

    # Beyond those of this process.
    environment: dict[str, str] = {}

    def __init__(self, directory: Path, hosts: dict, ports: tuple[int, int] | None = None, **sections: dict) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.file = directory / "hearthgate.yaml"
        self.https_port, self.http_port = ports or (free_port(), free_port())
        self._admin_port = free_port()
        listen = {
            "https": [f"127.0.0.1:{self.https_port}", f"[::1]:{self.https_port}"],
            "http": [f"127.0.0.1:{self.http_port}"],
        }
        self.config = {
            "listen": listen | sections.pop("listen", {}),
            "admin": {"listen": f"127.0.0.1:{self._admin_port}"},
            "state_directory": str(directory / "state"),
            "hosts": hosts,
            **sections,
        }
        self.write()
        self._process = self._start()

    def write(self) -> None:
        # JSON is YAML too.
        self.file.write_text(json.dumps(self.config, indent=2))

    def _start(self) -> subprocess.Popen:
        (self.directory / "state").mkdir(exist_ok=True)
        with open(self.directory / "access.log", "ab") as access, open(self.directory / "gate.log", "ab") as log:
            process = subprocess.Popen(
                [BINARY, "run", "--config", self.file], stdin=subprocess.DEVNULL, stdout=access, stderr=log,
                env=os.environ | self.environment,
            )  # fmt: skip

        def is_ready() -> bool:
            assert process.poll() is None, f"the gate ended with {process.returncode}:\n{self.log()[-3000:]}"
            try:
                return urllib.request.urlopen(f"{self.admin_url}/readyz", timeout=2).status == 200
            except (urllib.error.URLError, OSError):
                return False

        wait_for("the gate says it is ready", is_ready, 20)
        return process

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self._admin_port}"

    def url(self, host: str) -> str:
        return f"https://{host}:{self.https_port}"

    def metrics(self) -> str:
        return urllib.request.urlopen(f"{self.admin_url}/metrics", timeout=5).read().decode()

    def login_attempts(self) -> Counter[tuple[str, str]]:
        """How many attempts to log in have ended, by kind and outcome."""
        sample = re.compile(r'^hearthgate_login_attempts_total\{kind="(\w+)",outcome="(\w+)"\} (\d+)', re.MULTILINE)
        return Counter({(kind, outcome): int(count) for kind, outcome, count in sample.findall(self.metrics())})

    def explain(self, address: str) -> dict:
        """What the gate knows of a client."""
        return json.loads(self.bans("explain", address, "--json"))

    def bans(self, *arguments: str) -> str:
        """Runs `hearthgate bans ARGUMENTS`, which must succeed; what it prints."""
        command = [BINARY, "bans", *arguments, "--config", self.file]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert done.returncode == 0, f"bans {arguments} answered {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def log(self) -> str:
        return (self.directory / "gate.log").read_text(errors="replace")

    def command(self, name: str) -> subprocess.CompletedProcess:
        """Runs `hearthgate NAME --config FILE` with the file as it is now."""
        return subprocess.run(
            [BINARY, name, "--config", self.file], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )

    def reload(self) -> None:
        """Writes `config` and has the running gate take it over."""
        self.write()
        done = self.command("reload")
        assert done.returncode == 0, f"reload answered {done.returncode}: {done.stdout}{done.stderr}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit status, once the process has ended by itself."""
        return self._process.wait(seconds)

    def restart(self) -> None:
        """Ends it and starts it again with the same file, on the same ports."""
        self.stop()
        self._process = self._start()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError("the gate did not end within 60 s of SIGTERM") from None

    def memory(self) -> int:
        """Resident bytes now."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The most resident bytes since the start or `forget_peak_memory`."""
        return self._status("VmHWM")

    def forget_peak_memory(self) -> None:
        # proc_pid_clear_refs(5): 5 sets the peak back to what is resident now.
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} of the gate")
