"""A power cut at every moment between the order and the file."""

import pytest

from cloudflare import Cloudflare
from duckdns import DuckDns
from name_servers import CLOUD, DUCKDNS, PLAIN
from scene import Scene

_MOMENTS = [
    ("account", True),
    ("new order", False),
    ("new order", True),
    ("challenge", False),
    ("challenge", True),
    ("finalize", False),
    ("finalize", True),
    ("certificate", False),
    ("certificate", True),
]


def _at(kind: str, after_pebble: bool) -> str:
    return f"{'after' if after_pebble else 'before'} {kind}"


@pytest.mark.parametrize(("kind", "after_pebble"), _MOMENTS, ids=[_at(*moment) for moment in _MOMENTS])
def test_a_first_certificate_is_had_after_the_restart(scene: Scene, kind: str, after_pebble: bool) -> None:
    name = f"killed.{PLAIN}"
    hold = scene.front.hold(kind, after_pebble)
    gate = scene.start_gate(name)
    assert hold.reached.wait(20)
    gate.kill()
    hold.release()
    gate.start_again()
    seen = gate.wait_for_certificate(name)
    assert scene.pebble.status(seen.serial) == "Valid"
    if kind in ("finalize", "certificate"):
        # The key was kept, and with it the order: nothing is bought twice.
        gate.wait_for_log("INFO", "a certificate that was ordered before is picked up", f"name={name}")
        assert scene.front.asked["new order"] == 1


@pytest.mark.parametrize(("kind", "after_pebble"), [("new order", True), ("finalize", True), ("certificate", True)])
def test_the_old_certificate_is_served_until_the_new_one_is_had(scene: Scene, kind: str, after_pebble: bool) -> None:
    name = f"again.{PLAIN}"
    gate = scene.start_gate(name)
    first = gate.wait_for_certificate(name)
    hold = scene.front.hold(kind, after_pebble)
    gate.begin_to_renew(name)
    assert hold.reached.wait(20)
    assert gate.shown(name) == first
    gate.kill()
    hold.release()
    gate.start_again()
    assert gate.shown(name) == first
    gate.renew(name)
    assert gate.shown(name) not in (None, first)


def test_a_record_that_stood_does_not_hinder_the_next_attempt(scene: Scene, cloudflare: Cloudflare) -> None:
    name = f"killed.{CLOUD}"
    hold = scene.front.hold("challenge", after_pebble=False)
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"cloud": cloudflare.account()})
    assert hold.reached.wait(20)
    left = set(cloudflare.records)
    assert len(left) == 1
    gate.kill()
    hold.release()
    gate.start_again()
    gate.wait_for_certificate(name)
    # Nobody knows any more whose it was; what the second attempt has set is gone.
    assert set(cloudflare.records) <= left


def test_a_record_that_stood_on_duckdns_is_taken_away_by_the_next_attempt(scene: Scene, duckdns: DuckDns) -> None:
    name = f"anna.{DUCKDNS}"
    hold = scene.front.hold("challenge", after_pebble=False)
    gate = scene.start_gate(name, host={"challenges": ["dns-01"]}, dns={"duck": duckdns.account()})
    assert hold.reached.wait(20)
    gate.kill()
    hold.release()
    gate.start_again()
    gate.wait_for_certificate(name)
    assert [told.what for told in duckdns.log] == ["set", "set", "clear"]
