"""Certificates by each challenge, each provider and each kind of order."""

import stat
import time
from collections.abc import Callable

import pytest

from certificate_gate import CertificateGate
from cloudflare import Cloudflare
from duckdns import DuckDns
from hook import Hook
from name_servers import CLOUD, DELEGATED, DUCKDNS, HOME, HOOKED, INNER_CLOUD, PLAIN, RESOLVER, SLOW, NameServers
from pebble import DISTRIBUTION, Rules
from scene import Scene, StartScene, external_key

_PROFILES = (("default", 7_776_000), ("shortlived", 518_400))


# Two values of one name are shown a minute apart: authorities' resolvers remember the first that long.
_LAPSE = 120.0


def _expect(gate: CertificateGate, host: str, *names: str, seconds: float = 30) -> None:
    seen = gate.wait_for_certificate(host, seconds=seconds)
    assert seen.names == frozenset(names or [host])


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_a_name_is_shown_by_an_open_port(scene: Scene, challenge: str) -> None:
    name = f"{challenge}.{PLAIN}"
    gate = scene.start_gate(name, host={"challenges": [challenge]})
    _expect(gate, name)
    assert scene.front.asked["challenge"] == 1
    told = gate.acme(name)
    assert told["challenges"] == [challenge]
    assert (told["name"], told["state"], told["failures"], told["last_error"]) == (name, "idle", 0, None)
    assert f"name={name}" in gate.wait_for_log("INFO", "a certificate is had and served")


def test_what_is_kept_is_nobody_elses(scene: Scene) -> None:
    name = f"kept.{PLAIN}"
    gate = scene.start_gate(name)
    _expect(gate, name)
    assert stat.S_IMODE(gate.state.stat().st_mode) == 0o700
    kept = sorted(gate.state.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert {file.name for file in kept} >= {f"{name}.pem", f"{name}.json"}
    # A restart asks for nothing.
    asked = scene.front.asked["new order"]
    before = gate.shown(name)
    gate.restart()
    assert gate.shown(name) == before
    time.sleep(1)
    assert scene.front.asked["new order"] == asked == 1


def test_the_older_pebble_too(start_scene: StartScene) -> None:
    scene = start_scene(Rules(binary=DISTRIBUTION))
    gate = scene.start_gate(f"older.{PLAIN}")
    _expect(gate, f"older.{PLAIN}")


def test_dns_01_by_duckdns(scene: Scene, duckdns: DuckDns, servers: NameServers) -> None:
    name = f"anna.{DUCKDNS}"
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"home": duckdns.account()})
    _expect(gate, name)
    assert [(told.what, told.names) for told in duckdns.log] == [("set", ("anna",)), ("clear", ("anna",))]
    assert duckdns.refused == 0
    assert servers.ask(f"_acme-challenge.{name}", "TXT") == []


def test_dns_01_by_cloudflare_in_the_zone_of_the_longest_suffix(
    scene: Scene, cloudflare: Cloudflare, servers: NameServers
) -> None:
    name = f"ha.{INNER_CLOUD}"
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"cloud": cloudflare.account()})
    _expect(gate, name)
    posted = [line for line in cloudflare.log if line.startswith("POST")]
    assert len(posted) == 1 and cloudflare.zone_of(posted[0].split("/")[-2]) == INNER_CLOUD
    assert cloudflare.records == {}
    assert servers.ask(f"_acme-challenge.{name}", "TXT") == []


def test_dns_01_by_rfc2136_waits_for_the_slowest_server(
    scene: Scene, rfc2136: Callable[..., dict], servers: NameServers
) -> None:
    name = f"ha.{SLOW}"
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"bind": rfc2136(zones=[SLOW])})
    _expect(gate, name)
    # Pebble asks the slow one, and would not have asked again.
    assert scene.pebble.said("set INVALID") == 0
    assert servers.ask(f"_acme-challenge.{name}", "TXT") == []


def test_dns_01_by_a_hook_of_lego(scene: Scene, hook: Hook) -> None:
    name = f"ha.{HOOKED}"
    account = {"provider": "exec", "command": str(hook.command), "zones": [HOOKED]}
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"script": account})
    _expect(gate, name)
    present, cleanup = hook.calls()
    assert present[:2] == ["present", f"_acme-challenge.{name}."]
    assert cleanup == ["cleanup", *present[1:]]


def test_several_names_in_one_certificate(scene: Scene, rfc2136: Callable[..., dict]) -> None:
    names = [f"one.{HOME}", f"two.{HOME}", f"three.{PLAIN}"]
    gate = scene.start_gate(names[0], host={"names": names}, dns={"bind": rfc2136(zones=[HOME])})
    _expect(gate, names[0], *names)
    assert scene.front.asked["new order"] == 1


def test_a_wildcard(scene: Scene, rfc2136: Callable[..., dict]) -> None:
    host = f"any.{HOME}"
    gate = scene.start_gate(host, host={"names": [f"*.{HOME}"]}, dns={"bind": rfc2136(zones=[HOME])})
    _expect(gate, host, f"*.{HOME}")


def test_a_domain_with_its_wildcard(scene: Scene, cloudflare: Cloudflare) -> None:
    gate = scene.start_gate(CLOUD, host={"names": [CLOUD, f"*.{CLOUD}"]}, dns={"cloud": cloudflare.account()})
    _expect(gate, CLOUD, CLOUD, f"*.{CLOUD}", seconds=_LAPSE)
    assert cloudflare.records == {}


def test_a_domain_with_its_wildcard_on_duckdns_is_shown_strictly_one_after_another(
    scene: Scene, duckdns: DuckDns
) -> None:
    name = f"anna.{DUCKDNS}"
    gate = scene.start_gate(name, host={"names": [name, f"*.{name}"]}, dns={"home": duckdns.account()})
    _expect(gate, name, name, f"*.{name}", seconds=_LAPSE)
    story = [(told.at, told.what) for told in duckdns.log] + [(at, "validated") for at in scene.pebble.validations()]
    assert [what for _, what in sorted(story)] == ["set", "validated", "clear"] * 2
    # One record has room for one of the two values.
    assert len({told.value for told in duckdns.log if told.what == "set"}) == 2
    assert scene.front.asked["new order"] == 1


def test_an_account_that_the_authority_demands_beforehand(start_scene: StartScene) -> None:
    scene = start_scene(Rules(external_key=external_key()))
    name = f"external.{PLAIN}"
    right, scene.external_key = scene.external_key, external_key()
    gate = scene.start_gate(name)
    gate.wait_for_log("WARN", f"name={name}", 'step="account"', "the authority says: ")
    # The right key deserves a chance at once.
    gate.config["acme"]["external_account"]["hmac_key"] = right
    gate.reload()
    _expect(gate, name)


def test_an_authority_that_demands_an_account_and_is_shown_none(start_scene: StartScene) -> None:
    scene = start_scene(Rules(external_key=external_key()))
    scene.external_key = None
    gate = scene.start_gate(f"stranger.{PLAIN}")
    gate.wait_for_log("WARN", "its operator gives out a key: set `acme.external_account`")


def test_a_profile(start_scene: StartScene) -> None:
    scene = start_scene(Rules(profiles=_PROFILES))
    name = f"profile.{PLAIN}"
    gate = scene.start_gate(name, acme={"profile": "shortlived"})
    seen = gate.wait_for_certificate(name)
    assert 5 * 86_400 < seen.expires - time.time() < 7 * 86_400
    assert gate.acme(name)["profile"] == "shortlived"


def test_a_profile_that_the_authority_does_not_have(start_scene: StartScene) -> None:
    scene = start_scene(Rules(profiles=_PROFILES))
    gate = scene.start_gate(f"profile.{PLAIN}", acme={"profile": "tlsserver"})
    gate.wait_for_log(
        "the authority has no profile `tlsserver`, it offers default, shortlived: correct `profile`", 'step="order"'
    )


def test_what_fails_is_followed_by_the_next_challenge(start_scene: StartScene) -> None:
    scene = start_scene(Rules(closed_tls_port=True))
    name = f"fallback.{PLAIN}"
    gate = scene.start_gate(name, host={"challenges": ["tls-alpn-01", "http-01"]})
    _expect(gate, name)
    assert f"tls-alpn-01 has failed for {name}, http-01 is tried" in gate.log()
    assert scene.front.asked["new order"] == 2


def test_a_provider_that_fails_is_followed_by_an_open_port(scene: Scene, duckdns: DuckDns) -> None:
    name = f"nodns.{HOME}"
    account = duckdns.account(token="00000000-0000-4000-8000-000000000000", zones=[HOME])
    gate = scene.start_gate(name, dns={"home": account})
    _expect(gate, name)
    # Nothing was there to be looked for, so the order was as good as before.
    assert scene.front.asked["new order"] == 1


def test_a_challenge_that_another_zone_answers(
    start_scene: StartScene, rfc2136: Callable[..., dict], servers: NameServers
) -> None:
    # A name server alone does not follow an alias into another zone.
    scene = start_scene(Rules(asks=RESOLVER))
    name, target = f"ha.{HOOKED}", f"hooked.{DELEGATED}"
    record = f"_acme-challenge.{name}"
    servers.update(f"add {record} 1 CNAME {target}")
    try:
        servers.settle(record, "CNAME")
        gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"bind": rfc2136(zones=[DELEGATED])})
        _expect(gate, name)
    finally:
        servers.update(f"delete {record} CNAME")
    assert servers.ask(target, "TXT") == []


def test_what_clients_see_until_there_is_a_certificate(scene: Scene) -> None:
    warned, refused = f"warned.{PLAIN}", f"refused.{PLAIN}"
    scene.front.down()
    gate = scene.start_gate(
        warned, acme={"on_failure": "self_signed"}, hosts={refused: scene.host(on_failure="refuse")}
    )
    assert gate.is_self_signed(warned)
    with pytest.raises(OSError):
        gate.is_self_signed(refused)
    gate.wait_for_log("WARN", f"name={warned}", "the authority does not answer: cannot connect")
    gate.wait_for_log("WARN", f"name={refused}", "served_until=none")
    scene.front.up()
    for name in (warned, refused):
        gate.renew(name)
        assert gate.shown(name)
