"""A gate that asks Pebble for its certificates, and what clients and the operator see of them."""

import json
import signal
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gate import BINARY, Gate
from name_servers import RESOLVER
from pebble import Pebble
from waiting import wait_for


@dataclass(frozen=True)
class Shown:
    """The certificate of a handshake in which it was verified."""

    serial: str
    names: frozenset[str]
    # Seconds since 1970.
    expires: float


class CertificateGate(Gate):
    """Listens where `pebble` validates, and trusts its certificates' authority as a client would."""

    def __init__(self, directory: Path, pebble: Pebble, acme: dict, hosts: dict, **sections: object) -> None:
        self.pebble = pebble
        self.environment = dict(sections.pop("environment", {}))
        # What the command line printed, for the test that looks for secrets.
        self._printed = directory / "printed"
        defaults = {"propagation": {"resolvers": [RESOLVER], "timeout": "20s"}}
        super().__init__(
            directory, hosts, ports=(pebble.https_port, pebble.http_port), acme=defaults | acme, **sections
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Runs `hearthgate ARGUMENTS --config FILE`."""
        done = subprocess.run(
            [BINARY, *arguments, "--config", self.file], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=120,
        )  # fmt: skip
        with open(self._printed, "a") as file:
            file.write(f"$ {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done

    def certificates(self, *arguments: str) -> str:
        """Runs `hearthgate certificates ARGUMENTS`, which must succeed; what it prints."""
        done = self.run("certificates", *arguments)
        assert done.returncode == 0, f"certificates {arguments} answered {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def acme(self, name: str) -> dict:
        """What the gate tells of the certificate that it asks for itself."""
        return json.loads(self.certificates("show", name, "--json"))["acme"]

    def renew(self, name: str) -> None:
        """Asks for a certificate now, and waits until there is one."""
        self.certificates("renew", name)

    def fail_to_renew(self, name: str) -> str:
        """Asks for a certificate now, which must come to nothing; what the operator is told."""
        done = self.run("certificates", "renew", name)
        assert done.returncode != 0, f"there was a certificate: {done.stdout}"
        return done.stdout + done.stderr

    def begin_to_renew(self, name: str) -> None:
        """Asks for a certificate now, and does not wait."""
        command = [BINARY, "certificates", "renew", name, "--config", self.file]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def shown(self, name: str) -> Shown | None:
        """What a client is shown for `name` if it can be verified; `None` if not, or if the handshake is refused."""
        try:
            return self.handshake(name, self.pebble.context())
        except ssl.SSLError:
            return None

    def handshake(self, name: str, context: ssl.SSLContext) -> Shown:
        """What a client with these settings is shown."""
        with (
            socket.create_connection(("127.0.0.1", self.https_port), timeout=10) as tcp,
            context.wrap_socket(tcp, server_hostname=name) as tls,
        ):
            seen = tls.getpeercert()
        names = frozenset(value for kind, value in seen["subjectAltName"] if kind == "DNS")
        return Shown(seen["serialNumber"], names, ssl.cert_time_to_seconds(seen["notAfter"]))

    def shown_unverified(self, name: str) -> bytes:
        """What a client is shown that verifies nothing, as DER."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.https_port), timeout=10) as tcp,
            context.wrap_socket(tcp, server_hostname=name) as tls,
        ):
            return tls.getpeercert(binary_form=True)

    def is_self_signed(self, name: str) -> bool:
        """Whether the handshake ends well for a client that verifies nothing, and only for such a one."""
        return bool(self.shown_unverified(name)) and self.shown(name) is None

    def wait_for_certificate(self, name: str, other_than: Shown | None = None, seconds: float = 30) -> Shown:
        """The first verified certificate for `name` that is not `other_than`."""

        def look() -> Shown | None:
            seen = self.shown(name)
            return seen if seen != other_than else None

        try:
            return wait_for(f"a new certificate for {name}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.log().splitlines()[-25:])) from None

    def wait_for_log(self, *texts: str, after: int = 0, seconds: float = 30) -> str:
        """The first line of the log, beyond its first `after` bytes, that holds all of `texts`."""

        def look() -> str | None:
            lines = self.log()[after:].splitlines()
            return next((line for line in lines if all(text in line for text in texts)), None)

        try:
            return wait_for(f"a log line with {texts}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.log().splitlines()[-25:])) from None

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def look_at_the_clock(self) -> None:
        """Has it see at once that its clock was set, which it does by itself within a minute."""
        # A reload that changes something, though nothing that matters here.
        seconds = self.config.get("dynamic_dns", {}).get("interval", "300s")
        self.config["dynamic_dns"] = {"interval": "301s" if seconds == "300s" else "300s"}
        self.reload()

    def start_again(self) -> None:
        """After its end."""
        self._process = self._start()

    def keep_outputs(self) -> None:
        """Writes what it says of itself beside its logs, for the test that looks for secrets."""
        (self.directory / "metrics").write_text(self.metrics())
        for command in (
            ("status",),
            ("status", "--json"),
            ("certificates", "list"),
            ("certificates", "list", "--json"),
        ):
            self.run(*command)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.keep_outputs()
        super().stop()

    @property
    def state(self) -> Path:
        """Where its accounts and certificates are kept."""
        return Path(self.config["state_directory"]) / "acme"
