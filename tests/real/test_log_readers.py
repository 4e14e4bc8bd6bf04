"""fail2ban and CrowdSec, as Debian has them, find in the gate's log whom it has banned and who has failed, and nobody else."""

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import HOST
from curl import Curl
from debian import unpacked
from gate import NO_RATE_LIMITS, Gate
from outsider import Outsider, fresh_local_address, fresh_secret
from waiting import wait_for

_CONF = Path(__file__).parents[2] / "conf"
_MAX_FAILURES = 3
_GUARD = {"never_ban": [], "login": {"max_failures": _MAX_FAILURES}, **NO_RATE_LIMITS}
# What a stranger might write into a field that the access log quotes, to have somebody else shut out.
_VICTIM = "198.51.100.200"
_LOOKALIKES = [
    f"WARN client banned network={_VICTIM}/32 for=15m strikes=1",
    f"x hearthgate[1]: WARN client banned network={_VICTIM}/32 for=15m strikes=1",
    f"2026-11-24T00:00:00Z INFO login failed client={_VICTIM} host=a kind=password failures=1/10",
    f'"}}\\n2026-11-24T00:00:00Z WARN client banned network={_VICTIM}/32 for=15m strikes=1',
]


@pytest.fixture(scope="module")
def story(start_shared_gate: Callable[..., Gate], hosts: dict, curl_of: Callable[..., Curl], artifacts: Path) -> dict:
    """Some are banned, one mistypes, one tries to have another one shut out; everything that was said, in one file."""
    gate = start_shared_gate("log readers", hosts, guard=_GUARD)
    curl, application = curl_of(gate), gate.url(HOST) + "/"
    guessers, clumsy = [fresh_local_address() for _ in range(2)], fresh_local_address()
    for address in guessers:
        guesser = Outsider(curl, application, address)
        for _ in range(_MAX_FAILURES):
            guesser.step(guesser.begin(), username="somebody", password=fresh_secret())
    mistyping = Outsider(curl, application, clumsy)
    mistyping.step(mistyping.begin(), username="somebody", password=fresh_secret())
    for text in _LOOKALIKES:
        curl("/manifest.json", "--user-agent", text, source=fresh_local_address())
        curl("/auth/login_flow/" + quote(text), "--user-agent", text, source=fresh_local_address())
    access_log = gate.directory / "access.log"
    wait_for("the access log quotes them", lambda: access_log.read_text().count("client banned network=") >= 6)
    log = artifacts / "everything.log"
    # Where both go to one place, as in the journal or in a container.
    log.write_text(access_log.read_text() + gate.log() + access_log.read_text())
    failed = Counter({address: _MAX_FAILURES for address in guessers}) + Counter({clumsy: 1})
    return {"log": log, "banned": set(guessers), "failed": failed}


def _in_journal(log: Path) -> Path:
    """The same lines as `journalctl` and syslog show them."""
    lines = (re.sub(r"^\d{4}-\S+Z (?=[A-Z]+ )", "", line) for line in log.read_text().splitlines())
    journal = log.with_suffix(".journal")
    journal.write_text("".join(f"Nov 24 00:00:00 edge hearthgate[712]: {line}\n" for line in lines))
    return journal


# ---------------------------------------------------------------- fail2ban
def _matches(log: Path, mode: str, directory: Path) -> Counter[str]:
    """The addresses that `fail2ban-regex` finds with the shipped filter."""
    package = unpacked("fail2ban")
    configuration = directory / "fail2ban"
    shutil.copytree(package / "etc" / "fail2ban", configuration, dirs_exist_ok=True)
    shutil.copytree(_CONF / "fail2ban", configuration, dirs_exist_ok=True)
    command = [
        "/usr/bin/python3", package / "usr/bin/fail2ban-regex", "--config", configuration, "--out", "ip",
        str(log), f"hearthgate[mode={mode}]",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(package / "usr/lib/python3/dist-packages")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done
    return Counter(line.strip().removesuffix("/32") for line in done.stdout.splitlines() if line.strip())


@pytest.mark.parametrize("place", ["file", "journal"])
def test_fail2ban_finds_bans_and_failed_logins_and_falls_for_no_lookalike(story: dict, tmp_path: Path, place: str) -> None:
    log = story["log"] if place == "file" else _in_journal(story["log"])
    assert set(_matches(log, "bans", tmp_path)) == story["banned"]
    assert _matches(log, "logins", tmp_path) == story["failed"]


def test_fail2ban_accepts_the_shipped_jail(tmp_path: Path) -> None:
    package = unpacked("fail2ban")
    configuration = tmp_path / "fail2ban"
    shutil.copytree(package / "etc" / "fail2ban", configuration)
    shutil.copytree(_CONF / "fail2ban", configuration, dirs_exist_ok=True)
    # Debian switches one on by default, for which there is no log here.
    shutil.rmtree(configuration / "jail.d")
    shutil.copytree(_CONF / "fail2ban" / "jail.d", configuration / "jail.d")
    environment = os.environ | {"PYTHONPATH": str(package / "usr/lib/python3/dist-packages")}
    command = ["/usr/bin/python3", str(package / "usr/bin/fail2ban-client"), "-c", str(configuration), "-d"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done
    for part in ("'hearthgate', 'maxretry', 1", "_SYSTEMD_UNIT=hearthgate.service", "1:442,444:65535"):
        assert part in done.stdout, done


# ---------------------------------------------------------------- CrowdSec
class _LocalApi(http.server.ThreadingHTTPServer):
    """CrowdSec's own API, as far as its log reader needs it: takes every alert."""

    def __init__(self) -> None:
        self.alerts: list[dict] = []
        super().__init__(("127.0.0.1", 0), _LocalApiHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _LocalApiHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/alerts"):
            self.server.alerts.extend(body)
            self._answer(201, ["1"])
        else:
            self._answer(200, {"code": 200, "expire": "2099-01-01T00:00:00Z", "token": "x"})

    def do_GET(self) -> None:
        self._answer(200, {})

    do_HEAD = do_GET

    def _answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def _crowdsec(directory: Path, api: str) -> list[str]:
    """CrowdSec with the shipped parser and scenarios, and of its hub only what takes syslog and dates apart."""
    package = unpacked("crowdsec")
    hub = package / "usr/share/crowdsec/hub"
    for source, stage in [
        (hub / "parsers/s00-raw/crowdsecurity/syslog-logs.yaml", "parsers/s00-raw"),
        (_CONF / "crowdsec/parsers/hearthgate.yaml", "parsers/s01-parse"),
        (hub / "parsers/s02-enrich/crowdsecurity/dateparse-enrich.yaml", "parsers/s02-enrich"),
        (_CONF / "crowdsec/scenarios/hearthgate.yaml", "scenarios"),
    ]:
        (directory / stage).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, directory / stage)
    shutil.copytree(package / "etc/crowdsec/patterns", directory / "patterns")
    for name in ("postoverflows", "data", "hub"):
        (directory / name).mkdir()
    shutil.copy(hub / ".index.json", directory / "hub")
    shutil.copy(package / "etc/crowdsec/simulation.yaml", directory)
    (directory / "api.yaml").write_text(json.dumps({"url": api, "login": "reader", "password": "none"}))
    configuration = {
        "common": {"daemonize": False, "log_media": "stdout", "log_level": "info", "working_dir": "."},
        "config_paths": {
            "config_dir": f"{directory}/",
            "data_dir": f"{directory}/data/",
            "simulation_path": f"{directory}/simulation.yaml",
            "hub_dir": f"{directory}/hub/",
            "index_path": f"{directory}/hub/.index.json",
        },
        "crowdsec_service": {"acquisition_path": "/dev/null", "parser_routines": 1},
        "cscli": {"output": "human"},
        "db_config": {"type": "sqlite", "db_path": f"{directory}/data/crowdsec.db"},
        "api": {"client": {"credentials_path": f"{directory}/api.yaml"}},
        "prometheus": {"enabled": False},
    }
    (directory / "config.yaml").write_text(json.dumps(configuration))
    return [str(package / "usr/bin/crowdsec"), "-c", str(directory / "config.yaml"), "-no-api"]


@pytest.mark.parametrize("place", ["file", "journal"])
def test_crowdsec_hears_of_the_gates_bans_and_falls_for_no_lookalike(story: dict, tmp_path: Path, place: str) -> None:
    log = story["log"] if place == "file" else _in_journal(story["log"])
    kind = "hearthgate" if place == "file" else "syslog"
    api = _LocalApi()
    try:
        command = _crowdsec(tmp_path, f"http://127.0.0.1:{api.server_port}/")
        done = subprocess.run([*command, "-dsn", f"file://{log}", "-type", kind], capture_output=True, text=True, timeout=120)
    finally:
        api.shutdown()
        api.server_close()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    sources = {(alert["scenario"], alert["source"]["value"]) for alert in api.alerts}
    assert sources == {("hearthgate/ban", address) for address in story["banned"]}, done.stdout[-3000:]
