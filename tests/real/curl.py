"""curl as the tests' plain HTTP client: one request over HTTP/1.1 or HTTP/2, and the answer taken apart."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """The last answer curl got. `stderr` holds the conversation when `-v` was among the options."""

    status: int
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    stderr: str

    def header(self, name: str) -> str | None:
        return next((value for field, value in self.headers if field == name.lower()), None)

    def json(self) -> object:
        return json.loads(self.body)


class Curl:
    """Requests to one gate, whose host names curl is told to find on loopback."""

    def __init__(self, port: int, authority: Path, host: str) -> None:
        self._port, self._authority, self._host = port, authority, host

    def __call__(self, target: str, *options: str, **request: object) -> Answer:
        """Asks for `target`; fails when no answer came. The keywords are those of `attempt`."""
        done, answer = self.attempt(target, *options, **request)
        assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr}"
        return answer

    def attempt(
        self,
        target: str,
        *options: str,
        host: str | None = None,
        source: str | None = None,
        http: str = "1.1",
        token: str | None = None,
        seconds: int = 60,
        output: Path | None = None,
    ) -> tuple[subprocess.CompletedProcess, Answer]:
        """Asks `host` from the address `source`; what curl itself said comes too, for a request may be cut short.

        A body that goes to the file `output` is not in the answer.
        """
        host = host or self._host
        address = "[::1]" if source and ":" in source else "127.0.0.1"
        with tempfile.TemporaryDirectory() as directory:
            head, body = Path(directory, "head"), Path(directory, "body")
            head.touch()
            body.touch()
            command = [
                "curl", "--silent", "--show-error", "--noproxy", "*", f"--http{http}", "--path-as-is",
                "--cacert", self._authority, "--resolve", f"{host}:{self._port}:{address}",
                "--max-time", seconds, "--dump-header", head, "--output", output or body,
                "--write-out", "%{http_code} %{http_version}",
                *(["--interface", source] if source else []),
                *(["--oauth2-bearer", token] if token else []),
                *options, f"https://{host}:{self._port}{target}",
            ]  # fmt: skip
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds + 10)
            status, version = done.stdout.split()[-2:]
            return done, Answer(int(status), version, _last_headers(head.read_text()), body.read_bytes(), done.stderr)


def _last_headers(dump: str) -> list[tuple[str, str]]:
    """The fields of the last head in what `--dump-header` wrote; an interim answer has one of its own."""
    heads = [head for head in dump.replace("\r\n", "\n").split("\n\n") if head.startswith("HTTP/")]
    if not heads:
        return []
    pairs = (line.partition(":") for line in heads[-1].splitlines()[1:])
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]
