"""Pebble, the test authority of Let's Encrypt: Debian's for this system, and the newest that Debian has.

The newest knows renewal information (RFC 9773) and profiles; the older one shows that the gate lives without. What it
issues is valid for as long as a test says. It forgets everything when it ends, its accounts too.
"""

import json
import os
import ssl
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from authority import CertificateFiles
from name_servers import SECONDARY
from ports import free_port
from processes import Part

_ROOT = Path(__file__).resolve().parents[3]
NEWEST = _ROOT / "target" / "real" / "pebble" / "usr" / "bin" / "pebble"
DISTRIBUTION = Path("/usr/bin/pebble")
KEY_ID = "hearth-1"


@dataclass(frozen=True)
class Rules:
    """What may differ between two authorities."""

    binary: Path = NEWEST
    # Seconds for which certificates are valid, by profile; who asks for none gets any.
    profiles: tuple[tuple[str, int], ...] = (("default", 7_776_000),)
    # Percent of all nonces that are called bad although they are good.
    bad_nonces: int = 0
    # The HMAC key that an account must show it has, if any must.
    external_key: str | None = None
    blocked: tuple[str, ...] = ()
    # Its validations go to a port where nobody listens.
    closed_tls_port: bool = False
    closed_http_port: bool = False
    # The name server that it asks: by default the one that a record reaches last.
    asks: str = SECONDARY


class Pebble:
    """Validates at `https_port` and `http_port`, which are those of the gate."""

    def __init__(self, directory: Path, rules: Rules, files: CertificateFiles, tls: ssl.SSLContext) -> None:
        assert rules.binary.exists(), f"there is no {rules.binary}: run tests/real/certificates/install-pebble"
        self.rules = rules
        self.https_port, self.http_port = free_port(), free_port()
        self.port, self._management_port = free_port(), free_port()
        self._directory, self._tls = directory, tls
        directory.mkdir(parents=True)
        self._file = directory / "pebble.json"
        self._file.write_text(json.dumps({"pebble": self._config(files)}, indent=2))
        self.start()

    def _config(self, files: CertificateFiles) -> dict:
        rules = self.rules
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
            "certificate": str(files.chain),
            "privateKey": str(files.key),
            "tlsPort": free_port() if rules.closed_tls_port else self.https_port,
            "httpPort": free_port() if rules.closed_http_port else self.http_port,
            "externalAccountBindingRequired": rules.external_key is not None,
            "externalAccountMACKeys": {KEY_ID: rules.external_key} if rules.external_key else {},
            "domainBlocklist": list(rules.blocked),
        }
        if rules.binary == NEWEST:
            profiles = {name: {"description": name, "validityPeriod": seconds} for name, seconds in rules.profiles}
            return config | {"keyAlgorithm": "ecdsa", "profiles": profiles, "retryAfter": {"authz": 1, "order": 1}}
        return config | {"certificateValidityPeriod": rules.profiles[0][1]}

    def start(self) -> None:
        environment = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_AUTHZREUSE": "0",
            "PEBBLE_WFE_NONCEREJECT": str(self.rules.bad_nonces),
        }
        self._part = Part(
            [self.rules.binary, "-config", self._file, "-dnsserver", f"{self.rules.asks}:53"],
            self._directory,
            environment,
        )
        self._part.wait_until("it answers", self._is_ready)
        # Another at every start.
        self.root = self._manage("/roots/0")

    def stop(self) -> None:
        self._part.stop()

    def restart(self) -> None:
        """Afterwards it knows nothing of any account, order or certificate."""
        self.stop()
        self.start()

    def _is_ready(self) -> bool:
        try:
            return bool(self._manage("/roots/0"))
        except OSError:
            return False

    def _manage(self, path: str, body: object = None) -> str:
        url = f"https://localhost:{self._management_port}{path}"
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(url, data), timeout=10, context=self._tls).read().decode()

    def set_renewal_window(self, certificate: str, start: str, end: str) -> None:
        """From now on it says of `certificate` (PEM) that it is to be renewed between these moments."""
        window = {"suggestedWindow": {"start": start, "end": end}}
        self._manage("/set-renewal-info/", {"certificate": certificate, "ariResponse": json.dumps(window)})

    def status(self, serial: str) -> str:
        """`Valid` or `Revoked`."""
        return json.loads(self._manage(f"/cert-status-by-serial/{serial.lower()}"))["Status"]

    def context(self) -> ssl.SSLContext:
        """The settings of a client that trusts what it issues, and nothing else."""
        return ssl.create_default_context(cadata=self.root)

    def validations(self) -> list[float]:
        """When names were found to be shown, in the order in which that was."""
        return [at for at, line in self._part.lines if "set VALID by completed challenge" in line]

    def said(self, text: str) -> int:
        """In how many lines of its log there is `text`."""
        return sum(text in line for _, line in list(self._part.lines))

    def revoke(self, directory: str, certificate: Path, key: Path, ca_file: Path) -> None:
        """Has certbot revoke a certificate, by its own key."""
        subprocess.run(
            [
                "certbot", "revoke", "--non-interactive", "--server", directory, "--reason", "keycompromise",
                "--cert-path", certificate, "--key-path", key, "--no-delete-after-revoke",
                *certbot_places(self._directory),
            ],
            check=True, capture_output=True, timeout=60, env=os.environ | {"REQUESTS_CA_BUNDLE": str(ca_file)},
        )  # fmt: skip


def certbot_places(directory: Path) -> list[str]:
    """Where certbot keeps what it otherwise keeps in /etc and /var."""
    places = {"config": "live", "work": "work", "logs": "logs"}
    return [f"--{what}-dir={directory / 'certbot' / where}" for what, where in places.items()]
