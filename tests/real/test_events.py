"""What the gate tells arrives where people look: as a notification in Home Assistant, by the automation that is shipped."""

import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import HOST
from curl import Curl
from gate import BINARY, NO_RATE_LIMITS, Gate
from home_assistant import HomeAssistant
from household import Household
from outsider import Outsider, fresh_local_address, fresh_secret
from waiting import wait_for

_AUTOMATION = Path(__file__).parents[2] / "conf" / "home-assistant" / "automation.yaml"
_PLACEHOLDER = "REPLACE-BY-AN-ID-OF-YOUR-OWN"
_SOON = {"batch": "100ms", "min_interval": "1s"}
_GUARD = {"never_ban": [], "login": {"max_failures": 3}, **NO_RATE_LIMITS}


@pytest.fixture(scope="module")
def webhook(home_assistant: HomeAssistant, household: Household) -> str:
    """The URL of the webhook that the shipped automation waits at."""
    webhook_id = fresh_secret()
    shipped = _AUTOMATION.read_text()
    assert shipped.count(_PLACEHOLDER) == 1
    (home_assistant.config_directory / "hearthgate.yaml").write_text(shipped.replace(_PLACEHOLDER, webhook_id))
    with open(home_assistant.config_directory / "configuration.yaml", "a") as configuration:
        configuration.write("\nautomation hearthgate: !include hearthgate.yaml\n")
    household.command(type="call_service", domain="automation", service="reload")

    def is_there() -> bool:
        states = household.command(type="get_states")
        return any(state["entity_id"] == "automation.hearthgate_tells" and state["state"] == "on" for state in states)

    wait_for("the automation is on", is_there)
    return f"{home_assistant.url}/api/webhook/{webhook_id}"


@pytest.fixture
def gate(start_gate: Callable[..., Gate], hosts: dict, webhook: str) -> Gate:
    house = {"url": webhook, "format": "home_assistant", **_SOON}
    return start_gate(hosts, guard=_GUARD, events={"house": house})


def _notification(household: Household, kind: str, part: str) -> dict:
    """The notification of this kind, as soon as it says `part`."""

    def look() -> dict | None:
        shown = household.command(type="persistent_notification/get")
        return next((one for one in shown if one["notification_id"] == f"hearthgate_{kind}" and part in one["message"]), None)

    return wait_for(f"a notification of a {kind} with {part!r}", look)


def _guess_until_banned(curl: Curl, application: str) -> str:
    guesser = Outsider(curl, application, fresh_local_address())
    for _ in range(_GUARD["login"]["max_failures"]):
        guesser.step(guesser.begin(), username="somebody", password=fresh_secret())
    return guesser.address


def test_a_ban_is_a_notification_in_home_assistant(
    gate: Gate, curl_of: Callable[..., Curl], home_assistant: HomeAssistant, household: Household, webhook: str
) -> None:
    address = _guess_until_banned(curl_of(gate), gate.url(HOST) + "/")
    shown = _notification(household, "ban", address)
    assert shown["title"] == "Hearthgate: 1 ban"
    assert f"{address} is banned for 15m, until 20" in shown["message"]
    assert "too many failed logins" in shown["message"]
    assert home_assistant.failures_of(address) == _GUARD["login"]["max_failures"]
    webhook_id = webhook.rsplit("/", 1)[1]
    for said in (gate.log(), gate.metrics(), (gate.directory / "access.log").read_text()):
        assert webhook_id not in said


def test_a_login_and_a_refused_reload_are_notifications_too(
    gate: Gate, curl_of: Callable[..., Curl], home_assistant: HomeAssistant, household: Household
) -> None:
    newcomer = Outsider(curl_of(gate), gate.url(HOST) + "/", fresh_local_address())
    tokens = newcomer.log_in(home_assistant.user, home_assistant.password)
    shown = _notification(household, "new_device", newcomer.address)
    assert shown["message"] == f"Somebody has logged in to {HOST} from {newcomer.address} on a new device"
    assert newcomer.refresh(tokens["refresh_token"]).status == 200

    good = gate.file.read_text()
    gate.file.write_text(good.replace('"listen"', '"lisen"', 1))
    assert gate.command("reload").returncode == 1
    _notification(household, "reload_refused", "unknown key, did you mean `listen`?")
    gate.file.write_text(good)
    assert gate.command("reload").returncode == 0
    _notification(household, "reload_accepted", "accepted again")
    # A renewal and two reloads later there is still one new device.
    assert 'hearthgate_events_total{kind="new_device"} 1\n' in gate.metrics()


def test_the_command_sends_a_test_message(gate: Gate, household: Household) -> None:
    done = subprocess.run(
        [BINARY, "events", "test", "--config", gate.file], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "house: sent, answered 200"), done
    _notification(household, "test", "messages of the gate arrive here")


class _Receiver(http.server.ThreadingHTTPServer):
    """Some other program that is told: Python's own HTTP server."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[_Receiver]:
    server = _Receiver()
    yield server
    server.shutdown()
    server.server_close()


def test_ntfy_and_programs_are_told_in_their_own_ways(
    start_gate: Callable[..., Gate], hosts: dict, curl_of: Callable[..., Curl], receiver: _Receiver
) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}"
    phone = {"url": f"{url}/my-topic", "format": "ntfy", "token": "tk_secret", "tell": ["bans"], **_SOON}
    script = {"url": f"{url}/script", "format": "json", "tell": ["bans", "logins"], **_SOON}
    gate = start_gate(hosts, guard=_GUARD, events={"phone": phone, "script": script})
    address = _guess_until_banned(curl_of(gate), gate.url(HOST) + "/")
    wait_for("both are told", lambda: len(receiver.heard) == 2)
    told = {path: (fields, body) for path, fields, body in receiver.heard}
    fields, body = told["/my-topic"]
    assert (fields["title"], fields["authorization"]) == ("Hearthgate: 1 ban", "Bearer tk_secret")
    assert body.startswith(f"{address} is banned for 15m")
    events = json.loads(told["/script"][1])["events"]
    assert [(event["kind"], event["network"]) for event in events] == [("ban", f"{address}/32")]
