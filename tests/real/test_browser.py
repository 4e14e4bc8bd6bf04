"""A person with a browser: Debian's Chromium logs in through the gate and sees the dashboard."""

import asyncio
import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from authority import CertificateFiles
from clients import Clients
from conftest import HOST
from gate import Gate
from home_assistant import HomeAssistant
from pictures import picture, push

_BROWSER = Path(__file__).parent / "browser"


def _spki_fingerprint(certificate: CertificateFiles) -> str:
    """The digest by which Chromium can be told to trust one certificate."""
    pem = subprocess.run(
        ["openssl", "x509", "-in", certificate.chain, "-noout", "-pubkey"], check=True, capture_output=True, timeout=30
    ).stdout
    der = base64.b64decode(b"".join(line for line in pem.splitlines() if not line.startswith(b"-")))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


async def _show_a_picture(clients: Clients, home_assistant: HomeAssistant) -> None:
    async with clients.http() as http:
        await push(http, home_assistant.camera[1], picture(0))


@pytest.fixture(scope="module")
def visit(
    gate: Gate, clients: Clients, home_assistant: HomeAssistant, certificate: CertificateFiles, artifacts: Path
) -> dict:
    """One visit: a wrong password, the right one, the dashboard with the camera's picture."""
    asyncio.run(_show_a_picture(clients, home_assistant))
    done = subprocess.run(
        ["node", "login.mjs", gate.url(HOST), home_assistant.user, home_assistant.password,
         _spki_fingerprint(certificate), artifacts],
        cwd=_BROWSER, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_wrong_password_shows_its_message(visit: dict) -> None:
    assert visit["refusal"] == "Invalid username or password"


def test_the_dashboard_appears(visit: dict) -> None:
    assert visit["landed"].startswith(("/lovelace", "/home"))
    assert visit["websockets"] >= 1
    assert visit["frames"] > 5


def test_no_request_of_the_browser_fails(visit: dict) -> None:
    assert visit["requests"] > 50
    assert visit["failed"] == []


def test_the_browser_speaks_http2_and_registers_its_service_worker(visit: dict) -> None:
    assert visit["protocols"].get("h2", 0) > 50
    assert visit["serviceWorker"]
