"""Others' bad days: the certificate comes later, or the old one is served, and a sentence says what is wrong."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certificate_gate import CertificateGate, Shown
from clock import Clock
from cloudflare import Cloudflare
from duckdns import DuckDns
from hook import Hook
from name_servers import CLOUD, DUCKDNS, HOME, HOOKED, PLAIN, PRIMARY, SECONDARY, STUCK
from pebble import Rules
from scene import Scene, StartScene
from waiting import wait_for

_WRONG_TOKEN = "01234567-89ab-4cde-8f01-23456789abcd"


def _begin(scene: Scene, name: str, **more: object) -> tuple[CertificateGate, Shown]:
    """A gate that has a certificate already."""
    gate = scene.start_gate(name, **more)
    first = gate.wait_for_certificate(name)
    gate.wait_for_log("INFO", "a certificate is had and served")
    return gate, first


def _seconds_until(moment: str, clock: Clock | None = None) -> float:
    now = time.time() + (clock.ahead if clock else 0)
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone(UTC).timestamp() - now


def _an_hour_of_failures(gate: CertificateGate, name: str, clock: Clock, is_well: Callable[[], bool]) -> None:
    """Lets each wait be over at once, until the gate believes that an hour has gone by."""
    begun, waits = clock.ahead, []
    while True:
        line = gate.wait_for_log(f"name={name}", f"failures={len(waits) + 1} ")
        assert "the authority does not answer: cannot connect: Connection refused" in line
        wait_for("the end of the attempt", lambda: gate.acme(name)["state"] == "waiting")
        told = gate.acme(name)
        assert (told["failures"], told["last_error"]["step"]) == (len(waits) + 1, "account")
        assert is_well()
        waits.append(_seconds_until(told["next_attempt"], clock))
        if clock.ahead - begun > 3600:
            break
        clock.forward(waits[-1] + 1)
        gate.look_at_the_clock()
    # A minute at first, then twice as long each time, and up to a tenth more.
    assert len(waits) >= 6 and all(60 * 2**n - 5 <= wait <= 66 * 2**n + 5 for n, wait in enumerate(waits)), waits
    assert "the authority does not answer" in gate.certificates("list")
    assert "the authority does not answer" in gate.certificates("show", name)


def _come_by_itself(gate: CertificateGate, name: str, clock: Clock, before: Shown | None = None) -> None:
    clock.forward(_seconds_until(gate.acme(name)["next_attempt"], clock) + 1)
    gate.look_at_the_clock()
    gate.wait_for_certificate(name, before)
    wait_for("no failure any more", lambda: gate.acme(name)["failures"] == 0)
    assert gate.acme(name)["last_error"] is None


def test_the_authority_is_gone_for_an_hour_when_a_renewal_is_due(scene: Scene, tmp_path: Path) -> None:
    name, clock = f"gone.{PLAIN}", Clock(tmp_path / "now")
    scene.front.suggest_renewal(3600, 3601)
    gate, first = _begin(scene, name, environment=clock.environment)
    wait_for("a window", lambda: gate.acme(name)["renew_because"] == "the authority suggests it")
    scene.front.on("renewal information", None)
    scene.front.down()
    clock.forward(3610)
    gate.look_at_the_clock()
    _an_hour_of_failures(gate, name, clock, lambda: gate.shown(name) == first)
    scene.front.up()
    _come_by_itself(gate, name, clock, first)


def test_the_operator_does_not_wait_for_the_next_attempt(scene: Scene) -> None:
    name = f"impatient.{PLAIN}"
    gate, first = _begin(scene, name)
    scene.front.down()
    said = gate.fail_to_renew(name)
    assert f"{name}: account: the authority does not answer: cannot connect: Connection refused" in said
    assert "; next attempt at " in said
    assert gate.shown(name) == first
    scene.front.up()
    gate.renew(name)
    assert gate.shown(name) not in (None, first)


def test_the_first_certificate_comes_after_an_hour_without_the_authority(scene: Scene, tmp_path: Path) -> None:
    name, clock = f"away.{PLAIN}", Clock(tmp_path / "now")
    scene.front.down()
    gate = scene.start_gate(name, environment=clock.environment)
    _an_hour_of_failures(gate, name, clock, lambda: gate.is_self_signed(name))
    scene.front.up()
    _come_by_itself(gate, name, clock)


def test_half_of_all_nonces_are_bad(start_scene: StartScene) -> None:
    scene = start_scene(Rules(bad_nonces=50))
    name = f"nonces.{PLAIN}"
    gate = scene.start_gate(name)
    # Each request is tried a few times; an attempt that had bad luck all along is repeated.
    for _ in range(8):
        if gate.shown(name):
            break
        gate.run("certificates", "renew", name)
    assert gate.shown(name)
    assert scene.front.refused_nonces > 0


def test_the_authority_wants_no_more_orders_for_an_hour(scene: Scene, tmp_path: Path) -> None:
    name, clock = f"limited.{PLAIN}", Clock(tmp_path / "now")
    detail = "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s"
    scene.front.refuse("new order", 429, "rateLimited", detail, **{"Retry-After": "3600"})
    gate = scene.start_gate(name, environment=clock.environment)
    line = gate.wait_for_log("WARN", f"name={name}", "the authority takes no more orders until ")
    assert f"{detail} (rateLimited)" in line
    next_attempt = gate.acme(name)["next_attempt"]
    assert 3590 < _seconds_until(next_attempt, clock) < 3610
    # Remembered over a restart, and by a reload.
    gate.restart()
    gate.reload()
    time.sleep(1.5)
    assert gate.acme(name)["next_attempt"] == next_attempt
    assert scene.front.asked["new order"] == 1
    clock.forward(3580)
    gate.restart()
    time.sleep(1.5)
    assert scene.front.asked["new order"] == 1
    scene.front.on("new order", None)
    clock.forward(40)
    gate.restart()
    gate.wait_for_certificate(name)


def test_the_authority_is_not_well(scene: Scene) -> None:
    name = f"unwell.{PLAIN}"
    gate, first = _begin(scene, name)
    scene.front.refuse(
        "new order", 503, "serverInternal", "The service is down for maintenance", **{"Retry-After": "1800"}
    )
    assert "the authority says: The service is down for maintenance (serverInternal); the fault is on its side" in (
        gate.fail_to_renew(name)
    )
    # What the operator has asked for is done as soon as the authority allows.
    assert 1790 < _seconds_until(gate.acme(name)["next_attempt"]) < 1810
    assert gate.shown(name) == first
    scene.front.on("new order", None)
    gate.renew(name)
    assert gate.shown(name) not in (None, first)


def test_the_answer_to_a_request_for_a_certificate_is_lost(scene: Scene) -> None:
    name = f"lost.{PLAIN}"
    gate, first = _begin(scene, name)
    scene.front.lose_answers("finalize", 1)
    gate.fail_to_renew(name)
    assert gate.shown(name) == first
    ordered = scene.front.asked["new order"]
    gate.renew(name)
    assert gate.shown(name) not in (None, first)
    gate.wait_for_log("INFO", "a certificate that was ordered before is picked up", f"name={name}")
    # What was paid for is not bought again.
    assert scene.front.asked["new order"] == ordered


def test_a_name_that_the_authority_does_not_serve(start_scene: StartScene) -> None:
    scene = start_scene(Rules(blocked=(f"blocked.{PLAIN}",)))
    gate = scene.start_gate(f"blocked.{PLAIN}")
    gate.wait_for_log("WARN", 'step="order"', "(rejectedIdentifier); it makes no certificate with this name")
    assert gate.is_self_signed(f"blocked.{PLAIN}")


def test_an_order_becomes_invalid(start_scene: StartScene) -> None:
    scene = start_scene(Rules(closed_tls_port=True, closed_http_port=True))
    name = f"closed.{PLAIN}"
    gate = scene.start_gate(name)
    line = gate.wait_for_log("WARN", f'step="http-01 for {name}"')
    # Let's Encrypt would call this `connection`, for which the sentence ends as the next one does.
    assert "tls-alpn-01: the authority says: Failed to connect to 127.0.0.1:" in line
    assert "(unauthorized); something else answers on port 443 of the name; http-01: " in line
    assert "connection refused (connection); port 80 of the name must reach this gate" in line
    assert scene.pebble.said("set INVALID by invalid authz") == 2
    told = gate.acme(name)
    assert told["state"] == "waiting" and told["failures"] == 1 and 50 < _seconds_until(told["next_attempt"]) < 70


def test_a_record_never_reaches_all_servers(scene: Scene, rfc2136: Callable[..., dict]) -> None:
    name = f"ha.{STUCK}"
    gate, first = _begin(
        scene, name, host={"challenges": ["tls-alpn-01"]}, dns={"bind": rfc2136(zones=[STUCK])},
    )  # fmt: skip
    gate.config["hosts"][name]["certificate"]["acme"]["challenges"] = ["dns-01"]
    gate.config["acme"]["propagation"]["timeout"] = "3s"
    gate.reload()
    said = gate.fail_to_renew(name)
    assert f"the TXT record `_acme-challenge.{name}` is not on all servers of its zone after 3 s: expected " in said
    assert f"ns2.{STUCK} ({SECONDARY}) shows none" in said
    assert f"ns1.{STUCK} ({PRIMARY}) shows" in said
    assert "set `acme.propagation.timeout` higher" in said
    # The authority was never told to look: that would have cost a refusal.
    assert scene.front.asked["challenge"] == 1
    assert gate.shown(name) == first


def _providers(duckdns: DuckDns, cloudflare: Cloudflare, rfc2136: Callable[..., dict], hook: Hook) -> dict[str, dict]:
    return {
        "duckdns": duckdns.account(token=_WRONG_TOKEN),
        "cloudflare": cloudflare.account(token="x" * 40),
        "rfc2136": rfc2136(zones=[HOME], key="bm90IHRoZSByaWdodCBvbmUsIG5vdCBhdCBhbGwsIG5v"),
        "exec": {"provider": "exec", "command": str(hook.command) + "-gone", "zones": [HOOKED]},
    }


# What the operator is told of each account that does not work.
_CANNOT_SET = "`dns.account` cannot set the TXT record"
_SENTENCES = {
    ("duckdns", f"anna.{DUCKDNS}"): [
        _CANNOT_SET,
        "DuckDNS says KO: the token is wrong, or the domain `anna` is not among those of its owner at duckdns.org",
    ],
    ("cloudflare", f"ha.{CLOUD}"): [
        _CANNOT_SET,
        "Cloudflare does not take the token: ",
        "Invalid access token",
        "(status 403); it needs Zone:DNS:Edit and Zone:Zone:Read for the zone",
    ],
    ("rfc2136", f"ha.{HOME}"): [
        _CANNOT_SET,
        f"{PRIMARY}:53 finds the signature of the key `gate-key` wrong (BADSIG): compare its secret",
    ],
    ("exec", f"ha.{HOOKED}"): [
        _CANNOT_SET,
        "-gone cannot be run: No such file or directory (os error 2); is it there, executable, and begins with `#!`?",
    ],
}


@pytest.mark.parametrize(("provider", "name"), _SENTENCES)
def test_a_provider_does_not_take_the_token(
    scene: Scene, duckdns: DuckDns, cloudflare: Cloudflare, rfc2136: Callable[..., dict], hook: Hook,
    secrets_used: dict[str, str], provider: str, name: str,
) -> None:  # fmt: skip
    account = _providers(duckdns, cloudflare, rfc2136, hook)[provider]
    for key in ("token", "key"):
        if key in account:
            secrets_used[f"wrong {key} for {provider}"] = account[key]
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"account": account})
    line = gate.wait_for_log("WARN", f'step="dns-01 for {name}"')
    for sentence in _SENTENCES[provider, name]:
        assert sentence in line
    # A right token deserves a chance at once, without a wait and without a word of the operator's.
    right = {
        "duckdns": duckdns.account(), "cloudflare": cloudflare.account(), "rfc2136": rfc2136(zones=[HOME]),
        "exec": {"provider": "exec", "command": str(hook.command), "zones": [HOOKED]},
    }  # fmt: skip
    gate.config["dns"]["account"] = right[provider]
    gate.reload()
    gate.wait_for_certificate(name)


def test_a_certificate_ends_while_the_authority_is_gone(start_scene: StartScene) -> None:
    lifetime = 12
    scene = start_scene(Rules(profiles=(("default", lifetime),)))
    name = f"expired.{PLAIN}"
    gate, first = _begin(scene, name)
    scene.front.down()
    while time.time() <= first.expires + 1:
        assert gate.shown_unverified(name)
        time.sleep(0.5)
    # What has expired is shown all the same: a browser's warning says more than a closed door.
    assert gate.shown_unverified(name) and gate.shown(name) is None
    gate.wait_for_log("no certificate", f"name={name}", "the authority does not answer: cannot connect")
    gate.wait_for_log("ERROR", f"certificate has expired and is served nevertheless: host={name}")
    scene.front.up()
    gate.renew(name)
    assert gate.shown(name)
