"""The parts by themselves, without a gate: what the other tests take for granted."""

import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from authority import Authority
from cloudflare import Cloudflare
from duckdns import DuckDns
from name_servers import CLOUD, DUCKDNS, HOME, PRIMARY, RESOLVER, SECONDARY, SLOW, STUCK, NameServers
from pebble import DISTRIBUTION, NEWEST, Rules, certbot_places
from scene import Scene, StartScene
from waiting import wait_for


def _certbot(scene: Scene, authority: Authority, directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            "certbot", "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email",
            "--server", scene.front.directory, *certbot_places(directory), *arguments,
        ],
        capture_output=True, text=True, timeout=60, env=os.environ | {"REQUESTS_CA_BUNDLE": str(authority.certificate)},
    )  # fmt: skip


@pytest.mark.parametrize("binary", [DISTRIBUTION, NEWEST], ids=["of this Debian", "newest"])
def test_certbot_has_a_certificate_of_pebble(
    start_scene: StartScene, authority: Authority, binary: Path, tmp_path: Path
) -> None:
    scene = start_scene(Rules(binary=binary))
    done = _certbot(
        scene, authority, tmp_path, "--standalone", "--http-01-address", "127.0.0.1",
        "--http-01-port", str(scene.pebble.http_port), "-d", f"parts.{HOME}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    live = tmp_path / "certbot" / "live" / "live" / f"parts.{HOME}"
    chain = live / "fullchain.pem"
    root = tmp_path / "root.pem"
    root.write_text(scene.pebble.root)
    subprocess.run(["openssl", "verify", "-CAfile", root, "-untrusted", chain, chain], check=True, capture_output=True)
    serial = subprocess.run(
        ["openssl", "x509", "-in", chain, "-noout", "-serial"], check=True, capture_output=True, text=True
    ).stdout.split("=")[1]
    assert scene.pebble.status(serial.strip()) == "Valid"
    scene.pebble.revoke(scene.front.directory, chain, live / "privkey.pem", authority.certificate)
    assert scene.pebble.status(serial.strip()) == "Revoked"


def test_pebble_asks_our_name_servers(scene: Scene, servers: NameServers, authority: Authority, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        "#!/bin/sh\nprintf 'server %s\\nupdate add _acme-challenge.%s 1 TXT \"%s\"\\nsend\\n' "
        f'{PRIMARY} "$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION" | nsupdate -k {servers.nsupdate_key}; sleep 1\n'
    )
    hook.chmod(0o755)
    done = _certbot(
        scene, authority, tmp_path, "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", str(hook),
        "-d", f"*.parts.{HOME}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_secondary_follows_at_once_or_late_or_never(servers: NameServers) -> None:
    for zone in (HOME, SLOW, STUCK):
        servers.update(f"delete lag.{zone} TXT", f'add lag.{zone} 1 TXT "here"')
        assert servers.ask(f"lag.{zone}", "TXT", PRIMARY) == ["here"]
        assert servers.ask(f"ns2.{zone}", "A", RESOLVER) == [SECONDARY]
    wait_for("the secondary of a quick zone", lambda: servers.ask(f"lag.{HOME}", "TXT", SECONDARY) == ["here"], 3)
    wait_for("the secondary of a slow zone", lambda: servers.ask(f"lag.{SLOW}", "TXT", SECONDARY) == ["here"], 15)
    assert servers.ask(f"lag.{STUCK}", "TXT", SECONDARY) == []


def test_duckdns_has_one_text_for_a_name_and_all_below(duckdns: DuckDns, servers: NameServers) -> None:
    def ask(**query: str) -> str:
        text = "&".join(
            f"{key}={value}" for key, value in ({"domains": "anna", "token": duckdns.token} | query).items()
        )
        return urllib.request.urlopen(f"{duckdns.url}/update?{text}", timeout=5).read().decode()

    assert ask(txt="first") == "OK"
    assert ask(txt="second") == "OK"
    for name in ("anna", "_acme-challenge.anna", "_acme-challenge.ha.anna"):
        assert servers.ask(f"{name}.{DUCKDNS}", "TXT") == ["second"]
    assert ask(txt="") == "KO"
    assert ask(txt="anything", clear="true") == "OK"
    assert servers.ask(f"_acme-challenge.anna.{DUCKDNS}", "TXT") == []
    assert ask(ip="198.51.99.7", ipv6="2600:1f18::7") == "OK"
    assert servers.ask(f"anna.{DUCKDNS}", "AAAA") == ["2600:1f18::7"]
    assert [ask(token="wrong"), ask(domains="carla", txt="x"), ask()] == ["KO"] * 3
    assert [told.what for told in duckdns.log] == ["set", "set", "clear", "address"]
    assert duckdns.token not in str(duckdns.log)


def test_cloudflare_wants_its_token_and_a_zone(cloudflare: Cloudflare, servers: NameServers) -> None:
    def ask(method: str, path: str, fields: object = None, token: str = cloudflare.token) -> tuple[int, dict]:
        data = None if fields is None else json.dumps(fields).encode()
        headers = {"Authorization": f"Bearer {token}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(cloudflare.url + path, data, headers, method=method), timeout=5
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    status, document = ask("GET", "/zones", token="x" * 40)
    assert (status, document["errors"][0]["code"]) == (403, 9109)
    assert ask("GET", f"/zones?name=_acme-challenge.a.{CLOUD}")[1]["result"] == []
    zone = ask("GET", f"/zones?name={CLOUD}")[1]["result"][0]["id"]
    records = f"/zones/{zone}/dns_records"
    text = {"type": "TXT", "name": f"_acme-challenge.a.{CLOUD}", "content": '"v"', "ttl": 60}
    status, document = ask("POST", records, text)
    assert status == 200
    assert servers.ask(text["name"], "TXT") == ["v"]
    assert ask("POST", records, text)[1]["errors"][0]["code"] == 81058
    assert ask("POST", records, text | {"content": "w", "ttl": 5})[0] == 400
    assert ask("DELETE", f"{records}/{document['result']['id']}")[0] == 200
    assert servers.ask(text["name"], "TXT") == []
    assert cloudflare.token not in str(cloudflare.log)


def test_what_stands_in_front_can_be_gone_refuse_lose_and_hold(scene: Scene, authority: Authority) -> None:
    front, context = scene.front, authority.context()

    def ask() -> int:
        try:
            return urllib.request.urlopen(front.directory, timeout=5, context=context).status
        except urllib.error.HTTPError as error:
            assert error.headers["Replay-Nonce"]
            return error.code
        except OSError:
            return 0

    assert ask() == 200
    front.refuse("directory", 429, "rateLimited", "too many", times=1)
    assert [ask(), ask()] == [429, 200]
    front.lose_answers("directory", 1)
    assert [ask(), ask()] == [0, 200]
    hold = front.hold("directory", after_pebble=True)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    assert hold.reached.wait(5)
    time.sleep(0.1)
    assert answers == []
    hold.release()
    thread.join(5)
    assert answers == [200]
    front.down()
    assert ask() == 0
    front.up()
    assert ask() == 200


def test_a_part_that_speaks_tls_does_so_over_both_families(scene: Scene, authority: Authority) -> None:
    for address in ("127.0.0.1", "::1"):
        with (
            socket.create_connection((address, scene.front.port), timeout=5) as tcp,
            authority.context().wrap_socket(tcp, server_hostname="localhost") as tls,
        ):
            assert isinstance(tls, ssl.SSLSocket)
