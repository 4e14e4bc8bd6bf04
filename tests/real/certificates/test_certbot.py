"""Who has certbot keeps it: the files of its live directory, and what it does to them when it renews."""

import os
import subprocess
from pathlib import Path

from authority import Authority
from name_servers import HOME
from pebble import certbot_places
from scene import Scene


def test_the_live_directory_and_its_renewal(scene: Scene, authority: Authority, tmp_path: Path) -> None:
    name = f"certbot.{HOME}"

    def certbot(*arguments: str) -> None:
        done = subprocess.run(
            ["certbot", *arguments, "--non-interactive", "--server", scene.front.directory, *certbot_places(tmp_path)],
            capture_output=True, text=True, timeout=60,
            env=os.environ | {"REQUESTS_CA_BUNDLE": str(authority.certificate)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    certbot(
        "certonly", "--agree-tos", "--register-unsafely-without-email", "--standalone",
        "--http-01-address", "127.0.0.1", "--http-01-port", str(scene.pebble.http_port), "-d", name,
    )  # fmt: skip
    live = tmp_path / "certbot" / "live" / "live" / name
    files = {"chain_file": str(live / "fullchain.pem"), "key_file": str(live / "privkey.pem")}
    # Port 80 stays certbot's.
    gate = scene.start_gate(name, certificate=files, listen={"http": []})
    first = gate.wait_for_certificate(name)
    assert first.names == {name}
    certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
    gate.wait_for_certificate(name, first)
