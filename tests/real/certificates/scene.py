"""An authority, what stands in front of it, and the gates that ask it for certificates."""

import secrets
from collections.abc import Callable
from pathlib import Path

from authority import Authority, CertificateFiles
from certificate_gate import CertificateGate
from front import Front
from pebble import KEY_ID, Pebble, Rules

EMAIL = "anna@example.org"


class Scene:
    """One Pebble, all of whose traffic with gates goes through `front`."""

    def __init__(
        self, directory: Path, rules: Rules, authority: Authority, files: CertificateFiles, echo_url: str
    ) -> None:
        self.directory = directory
        self.pebble = Pebble(directory / "pebble", rules, files, authority.context())
        self.front = Front(files, self.pebble.port, authority.context())
        # What gates say that it is.
        self.external_key = rules.external_key
        self._ca_file, self._echo_url = authority.certificate, echo_url
        self.gates: list[CertificateGate] = []

    def acme(self, **changes: object) -> dict:
        """The section `acme:`."""
        section = {"directory": self.front.directory, "ca_file": str(self._ca_file), "email": EMAIL}
        if self.external_key:
            section["external_account"] = {"key_id": KEY_ID, "hmac_key": self.external_key}
        return section | changes

    def host(self, **acme: object) -> dict:
        """An entry below `hosts:` with a certificate from the authority."""
        return {"upstream": self._echo_url, "app": "generic", "certificate": {"acme": acme}}

    def start_gate(
        self, name: str, *, acme: dict | None = None, host: dict | None = None, **sections: object
    ) -> CertificateGate:
        """A gate with one host; its other ports are the ones at which Pebble validates, so there is one at a time."""
        entry = self.host(**(host or {}))
        if files := sections.pop("certificate", None):
            entry["certificate"] = files
        hosts = {name: entry} | sections.pop("hosts", {})
        # Short, for the path of a Unix socket has some 100 bytes.
        directory = self.directory / f"gate-{len(self.gates)}"
        gate = CertificateGate(directory, self.pebble, self.acme(**(acme or {})), hosts, **sections)
        self.gates.append(gate)
        return gate

    def stop(self) -> None:
        for gate in self.gates:
            gate.stop()
        self.front.stop()
        self.pebble.stop()


StartScene = Callable[..., Scene]


def external_key() -> str:
    """An HMAC key as an authority hands it out."""
    return secrets.token_urlsafe(48)
