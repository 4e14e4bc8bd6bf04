"""Names that follow the home: the stand-in hears of changes within an interval, and of nothing else."""

import time

from address_source import AddressSource
from authority import Authority
from certificate_gate import CertificateGate
from cloudflare import Cloudflare
from duckdns import DuckDns
from name_servers import CLOUD, DUCKDNS, NameServers
from scene import Scene
from waiting import wait_for

# The shortest that the configuration allows.
_INTERVAL = 10
# For the look itself.
_GRACE = 3


def _start(scene: Scene, authority: Authority, source: AddressSource, name: str, account: dict) -> CertificateGate:
    """A gate that gets its addresses from the stand-in, which it trusts as it would the system's authorities."""
    return scene.start_gate(
        f"ha.{name}",
        host={"challenges": ["tls-alpn-01"]},
        dns={"home": account},
        dynamic_dns={
            "names": [name], "ipv4": [source.url(4)], "ipv6": [source.url(6)], "interval": f"{_INTERVAL}s",
        },
        environment={"SSL_CERT_FILE": str(authority.certificate)},
    )  # fmt: skip


def test_both_addresses_follow_within_the_interval_and_nothing_else_is_sent(
    scene: Scene, authority: Authority, address_source: AddressSource, duckdns: DuckDns, servers: NameServers
) -> None:
    name = f"anna.{DUCKDNS}"

    def told() -> list[str]:
        return [entry.value for entry in duckdns.log if entry.what == "address"]

    gate = _start(scene, authority, address_source, name, duckdns.account())
    first = f"A={address_source.ipv4} AAAA={address_source.ipv6}"
    wait_for("the addresses of the beginning", lambda: told() == [first], _GRACE + 2)
    assert servers.ask(name, "A") == [address_source.ipv4] and servers.ask(name, "AAAA") == [address_source.ipv6]

    # Nothing has changed: nothing is sent, although it is looked.
    asked = address_source.asked
    time.sleep(2 * _INTERVAL + _GRACE)
    assert address_source.asked >= asked + 4
    assert told() == [first]

    address_source.ipv4 = "198.51.99.8"
    wait_for("the new IPv4 address", lambda: servers.ask(name, "A") == ["198.51.99.8"], _INTERVAL + _GRACE)
    assert len(told()) == 2
    address_source.ipv6 = "2600:1f18::8"
    wait_for("the new IPv6 address", lambda: servers.ask(name, "AAAA") == ["2600:1f18::8"], _INTERVAL + _GRACE)
    assert len(told()) == 3
    assert servers.ask(name, "A") == ["198.51.99.8"]

    # A restart has nothing to send either: the zone's own servers say what stands.
    servers.settle(name, "AAAA")
    gate.restart()
    time.sleep(_GRACE)
    assert len(told()) == 3
    assert "hearthgate_dynamic_dns" in gate.metrics()


def test_cloudflare_follows_too(
    scene: Scene, authority: Authority, address_source: AddressSource, cloudflare: Cloudflare, servers: NameServers
) -> None:
    name = f"home.{CLOUD}"
    _start(scene, authority, address_source, name, cloudflare.account())
    wait_for("both records", lambda: len(cloudflare.records) == 2, _GRACE + 2)
    before = dict(cloudflare.records)
    address_source.ipv4, address_source.ipv6 = "198.51.99.9", "2600:1f18::9"
    wait_for("the new IPv4 address", lambda: "198.51.99.9" in servers.ask(name, "A"), _INTERVAL + _GRACE)
    wait_for("the new IPv6 address", lambda: "2600:1f18::9" in servers.ask(name, "AAAA"), _GRACE)
    # The same records, changed.
    assert {identity: record["type"] for identity, record in cloudflare.records.items()} == {
        identity: record["type"] for identity, record in before.items()
    }


def test_a_wrong_token_and_an_address_that_nobody_can_reach_are_said(
    scene: Scene, authority: Authority, address_source: AddressSource, duckdns: DuckDns, secrets_used: dict[str, str]
) -> None:
    name = f"berta.{DUCKDNS}"
    address_source.ipv6 = "fd00::7"
    secrets_used["wrong token for dynamic DNS"] = wrong = "fedcba98-7654-4321-8fed-cba987654321"
    gate = _start(scene, authority, address_source, name, duckdns.account(token=wrong))
    gate.wait_for_log("DuckDNS says KO: the token is wrong, or the domain `berta` is not among")
    gate.wait_for_log("fd00::7 is a local IPv6 address (ULA), which the internet does not carry")
    assert duckdns.log == []
