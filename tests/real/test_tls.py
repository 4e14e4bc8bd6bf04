"""The TLS front door, asked by openssl and curl."""

import re
import subprocess

import pytest

from authority import Authority
from conftest import ECHO_HOST, HOST
from curl import Curl
from gate import Gate


def _s_client(gate: Gate, *options: str) -> str:
    """What `openssl s_client` says of one handshake."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gate.https_port}", *options],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize(
    "options", [("-servername", "unknown.example.test"), ("-noservername",)], ids=["unknown", "missing"]
)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_an_unknown_name_gets_an_alert_and_no_certificate(gate: Gate, options: tuple[str, ...], version: str) -> None:
    said = _s_client(gate, version, *options)
    assert re.search(r"(unrecognized name|handshake failure|access denied).*SSL alert number", said), said
    assert "no peer certificate available" in said
    assert "BEGIN CERTIFICATE" not in said


@pytest.mark.parametrize(("version", "name"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_both_living_versions_are_spoken(gate: Gate, authority: Authority, version: str, name: str) -> None:
    said = _s_client(gate, version, "-servername", HOST, "-CAfile", str(authority.certificate))
    assert f"New, {name}" in said, said
    assert "Verify return code: 0 (ok)" in said


def test_an_old_version_is_refused(gate: Gate) -> None:
    said = _s_client(gate, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0", "-servername", HOST)
    assert "no peer certificate available" in said


def test_http2_is_preferred(gate: Gate) -> None:
    said = _s_client(gate, "-servername", HOST, "-alpn", "http/1.1,h2")
    assert "ALPN protocol: h2" in said


def test_the_key_exchange_withstands_a_quantum_computer(gate: Gate) -> None:
    groups = subprocess.run(["openssl", "list", "-kem-algorithms"], capture_output=True, text=True, timeout=30).stdout
    if "X25519MLKEM768" not in groups:
        pytest.skip("this openssl is older than 3.5; the Rust tests ask rustls instead")
    said = _s_client(gate, "-servername", HOST, "-groups", "X25519MLKEM768")
    assert "X25519MLKEM768" in said
    assert "BEGIN CERTIFICATE" in said


def test_another_host_than_the_handshake_named_is_misdirected(curl: Curl) -> None:
    for http in ("1.1", "2"):
        assert curl("/", "--header", f"Host: {ECHO_HOST}", host=HOST, http=http).status == 421
        assert curl("/", host=ECHO_HOST, http=http).status == 200


def test_port_80_sends_to_https_and_answers_nothing_else(gate: Gate) -> None:
    def ask(*options: str) -> str:
        done = subprocess.run(
            ["curl", "--silent", "--noproxy", "*", "--max-time", "20", "--output", "/dev/null",
             "--write-out", "%{http_code} %{redirect_url}", "--connect-to", f"::127.0.0.1:{gate.http_port}",
             f"http://{HOST}/lovelace/0?edit=1", *options],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return done.stdout

    assert ask() == f"308 {gate.url(HOST)}/lovelace/0?edit=1"
    assert ask("--data", "password=open") == f"308 {gate.url(HOST)}/lovelace/0?edit=1"
