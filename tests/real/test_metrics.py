"""A real Prometheus scrapes the gate while people and strangers come and go: every question of the dashboard and of the
alerts has an answer.

A minute of traffic stands for the hour that nobody waits for; the scrape is once a second instead of every fifteen.
"""

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from authority import Authority
from clients import Clients
from conftest import ECHO_HOST, HOST
from curl import Curl
from gate import Gate
from home_assistant import HomeAssistant
from household import Household
from outsider import Outsider, fresh_local_address, fresh_secret
from prometheus import Prometheus
from waiting import wait_for
from websocket_api import logged_in

_GRAFANA = Path(__file__).parents[2] / "grafana"
_ROUNDS = 12
# What the gate has only with `acme:` or `dynamic_dns:` in its file.
_NOT_CONFIGURED = {"hearthgate_acme_failing", "hearthgate_dynamic_dns_failing"}


@pytest.fixture(scope="module")
def gate(start_shared_gate: Callable[..., Gate], hosts: dict) -> Gate:
    """May ban clients of this machine."""
    return start_shared_gate("metrics", hosts, guard={"never_ban": []})


class _Watched:
    """A gate, what came to it, and the Prometheus that saw it come."""

    def __init__(self, prometheus: Prometheus, begin: float) -> None:
        self.prometheus, self.begin, self.end = prometheus, begin, time.time()

    def numbers(self, expression: str) -> list[float]:
        return self.prometheus.numbers(expression, self.begin, self.end)


@pytest.fixture(scope="module")
def watched(
    gate: Gate, clients_of: Callable[..., Clients], curl_of: Callable[..., Curl], home_assistant: HomeAssistant,
    household: Household, artifacts: Path,
) -> Iterator[_Watched]:  # fmt: skip
    prometheus = Prometheus(artifacts / "prometheus", gate.admin_url)
    begin = time.time()
    try:
        traffic = _Traffic(gate, clients_of(gate), curl_of(gate), home_assistant, household)
        asyncio.run(asyncio.wait_for(traffic.run(), 180))
        yield _Watched(prometheus, begin)
    finally:
        prometheus.stop()


class _Traffic:
    def __init__(
        self, gate: Gate, clients: Clients, curl: Curl, home_assistant: HomeAssistant, household: Household
    ) -> None:
        self._gate, self._clients, self._curl, self._owner = gate, clients, curl, home_assistant
        self._household, self._application = household, gate.url(HOST) + "/"

    async def run(self) -> None:
        async with logged_in(self._clients, self._owner.token) as websocket:
            for number in range(_ROUNDS):
                await websocket.ping()
                await self._people()
                await asyncio.to_thread(self._strangers)
                await asyncio.to_thread(self._operator, number)
                await asyncio.sleep(1)
        # The guard's numbers are up to five seconds old, and two scrapes make a rate.
        await asyncio.sleep(8)

    async def _people(self) -> None:
        async with self._clients.http(token=self._owner.token) as http:
            for target in ("/", "/manifest.json", "/api/config", "/static/nowhere.js"):
                async with http.get(target) as answer:
                    await answer.read()
        async with logged_in(self._clients, self._owner.token) as websocket:
            await websocket.ping()
        await asyncio.to_thread(self._curl, "/", host=ECHO_HOST)
        someone = Outsider(self._curl, self._application, fresh_local_address())
        await asyncio.to_thread(someone.log_in, self._household.guest, self._household.password)

    def _strangers(self) -> None:
        address = fresh_local_address()
        someone = Outsider(self._curl, self._application, address)
        with suppress(AssertionError, KeyError, json.JSONDecodeError):
            # Up to a ban, or to the limit of an account that several have guessed at.
            for _ in range(11):
                someone.step(someone.begin(), username=fresh_secret(8), password=fresh_secret())
        self._curl.attempt("/", host="unknown.example.test")
        Outsider(self._curl, self._application, fresh_local_address()).ask("/api/states", "--oauth2-bearer", fresh_secret())

    def _operator(self, number: int) -> None:
        if number == 3:
            self._gate.config["limits"] = {"header_count": 99}
            self._gate.reload()
        if number == 5:
            good = self._gate.file.read_text()
            self._gate.file.write_text("hosts: [")
            self._gate.signal(signal.SIGHUP)
            wait_for("the file is refused", lambda: "configuration refused" in self._gate.log())
            # Long enough for a scrape to see it.
            time.sleep(2)
            self._gate.file.write_text(good)
            self._gate.reload()
        if number == 6:
            self._gate.bans("add", "192.0.2.0/24", "--for", "1h")
            self._gate.bans("remove", "192.0.2.0/24")


def _interpolated(expression: str) -> str:
    """As Grafana sends it when everything is chosen."""
    return expression.replace("$__rate_interval", "15s").replace("$instance", ".*").replace("$host", ".*")


def _dashboard() -> dict:
    return json.loads((_GRAFANA / "hearthgate.json").read_text())


def _queries() -> list[tuple[str, str]]:
    dashboard = _dashboard()
    panels = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    annotations = dashboard["annotations"]["list"]
    return panels + [(annotation["name"], annotation["target"]["expr"]) for annotation in annotations]


@pytest.mark.parametrize("query", _queries(), ids=lambda query: f"{query[0]}: {query[1][:40]}")
def test_every_query_of_the_dashboard_finds_something(watched: _Watched, query: tuple[str, str]) -> None:
    assert watched.numbers(_interpolated(query[1])), query


def test_every_variable_of_the_dashboard_has_values(watched: _Watched) -> None:
    queries = [variable["query"] for variable in _dashboard()["templating"]["list"] if variable["type"] == "query"]
    for query in queries:
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        assert watched.prometheus.ask(f"label/{label}/values", **{"match[]": _interpolated(selector)}), query


def test_what_alerts_look_at_is_there_and_each_is_understood(watched: _Watched) -> None:
    rules = watched.prometheus.ask("rules")["groups"][0]["rules"]
    assert len(rules) > 9
    for rule in rules:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
        for selector, name in re.findall(r"((hearthgate_\w+)(?:{[^}]*})?)", rule["query"]):
            assert name in _NOT_CONFIGURED or watched.numbers(selector), (rule["name"], selector)


def test_the_traffic_is_told_as_it_was(watched: _Watched) -> None:
    """Numbers that mean what they say, for each row of the dashboard."""

    def last(expression: str) -> float:
        return watched.numbers(expression)[-1]

    assert last('sum(hearthgate_login_attempts_total{kind="password",outcome="succeeded"})') >= _ROUNDS
    assert last('hearthgate_bans_total{cause="login"}') >= 1
    assert last("hearthgate_bans_lifted_total") == 1
    assert last('hearthgate_config_reloads_total{outcome="refused"}') == 1
    assert last("hearthgate_websockets_opened_total") >= _ROUNDS + 1
    assert last('hearthgate_requests_total{class="websocket",code="1xx"}') >= _ROUNDS + 1
    assert last('hearthgate_requests_total{class="api",code="2xx",host="ha.example.test"}') >= _ROUNDS
    assert last('hearthgate_tls_handshakes_total{outcome="tls_name"}') >= _ROUNDS
    assert last("histogram_quantile(0.5, sum by (le) (hearthgate_gate_duration_seconds_bucket))") < 0.01
    assert last('sum(hearthgate_upstream_connections_total{reused="yes"})') >= 1
    assert min(watched.numbers("hearthgate_config_last_reload_successful")) == 0
    assert last("hearthgate_known_devices") >= 1


def test_the_scrape_is_as_prometheus_wants_it(gate: Gate, watched: _Watched, record_figure: Callable[[str, object], None]) -> None:
    scrape = gate.metrics()
    record_figure("KiB of one scrape", round(len(scrape) / 1024, 1))
    done = subprocess.run(["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
