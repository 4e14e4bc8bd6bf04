"""Renewal: by age, as the authority suggests, because the operator asks, and after the authority has forgotten us."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authority import Authority
from clock import Clock
from name_servers import PLAIN
from pebble import DISTRIBUTION, Rules
from scene import Scene, StartScene
from waiting import wait_for

_HOUR = 3600


def _moment(seconds: float) -> str:
    """So many seconds from now, as the authority writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_third_of_its_life_is_left(start_scene: StartScene) -> None:
    # Without renewal information the age decides.
    lifetime = 30
    scene = start_scene(Rules(binary=DISTRIBUTION, profiles=(("default", lifetime),)))
    name = f"age.{PLAIN}"
    gate = scene.start_gate(name)
    first = gate.wait_for_certificate(name)
    assert gate.acme(name)["renew_because"] == "a third of its life is left"
    second = gate.wait_for_certificate(name, first, seconds=lifetime)
    left = first.expires - time.time()
    assert lifetime / 3 - 2 < left < lifetime / 3 + 3, f"renewed {left:.1f} s before the end"
    assert second.expires > first.expires
    gate.wait_for_log("INFO", f"name={name}", 'why="a third of its life is left"')


def test_the_authority_suggests_a_moment(scene: Scene) -> None:
    name = f"suggested.{PLAIN}"
    begun = time.time()
    scene.front.suggest_renewal(4, 6)
    gate = scene.start_gate(name)
    first = gate.wait_for_certificate(name)
    second = gate.wait_for_certificate(name, first)
    scene.front.on("renewal information", None)
    assert 4 <= time.time() - begun < 12
    gate.wait_for_log("INFO", f"name={name}", 'why="the authority suggests it"')
    # The authority learns what is replaced, so that the order counts for nothing in its limits (RFC 9773, section 5).
    orders = scene.front.orders()
    assert "replaces" not in orders[0] and "replaces" in orders[1]
    assert second.expires > first.expires


def test_the_authority_changes_its_mind_and_a_revoked_certificate_is_replaced(
    scene: Scene, authority: Authority, tmp_path: Path
) -> None:
    name = f"revoked.{PLAIN}"
    clock = Clock(tmp_path / "now")
    gate = scene.start_gate(name, environment=clock.environment)
    first = gate.wait_for_certificate(name)
    gate.wait_for_log("INFO", "a certificate is had and served")
    pem = gate.state / f"{name}.pem"
    wait_for("a window", lambda: gate.acme(name)["renew_because"] == "the authority suggests it")
    assert gate.acme(name)["next_attempt"] > _moment(30 * 24 * _HOUR)

    # An unusual window; seen when the authority wants to be asked again, after six hours.
    scene.pebble.set_renewal_window(pem.read_text(), _moment(-2 * _HOUR), _moment(-_HOUR))
    assert gate.shown(name) == first
    clock.forward(7 * _HOUR)
    gate.look_at_the_clock()
    second = gate.wait_for_certificate(name, first)

    # Nobody sets a window here: Pebble suggests to replace what is revoked at once.
    scene.pebble.revoke(scene.front.directory, pem, pem, authority.certificate)
    assert scene.pebble.status(second.serial) == "Revoked"
    clock.forward(7 * _HOUR)
    gate.look_at_the_clock()
    third = gate.wait_for_certificate(name, second)
    assert scene.pebble.status(third.serial) == "Valid"
    assert sum("replaces" in order for order in scene.front.orders()) == 2


def test_the_operator_asks(scene: Scene) -> None:
    name = f"asked.{PLAIN}"
    gate = scene.start_gate(name)
    first = gate.wait_for_certificate(name)
    listed = gate.certificates("list")
    assert name in listed
    gate.renew(name)
    second = gate.shown(name)
    assert second and second != first
    gate.wait_for_log("INFO", f"name={name}", 'why="the operator has asked"')
    assert "stranger.example.org" in gate.fail_to_renew("stranger.example.org")


def test_the_authority_has_forgotten_the_account(scene: Scene) -> None:
    name = f"forgotten.{PLAIN}"
    gate = scene.start_gate(name)
    before = gate.wait_for_certificate(name)
    accounts = set(gate.state.glob("account-*"))
    old_root = scene.pebble.root
    scene.pebble.restart()
    assert scene.pebble.root != old_root
    gate.renew(name)
    assert gate.shown(name) not in (None, before)
    gate.wait_for_log("WARN", "the account is of no use any more, another is made: the authority says: ")
    # The old one is set aside, not thrown away.
    assert len(set(gate.state.glob("account-*"))) == len(accounts) + 1


def test_the_authority_has_closed_the_account(scene: Scene) -> None:
    name = f"closed.{PLAIN}"
    gate = scene.start_gate(name)
    before = gate.wait_for_certificate(name)
    # In the words of Let's Encrypt.
    scene.front.refuse("new order", 403, "unauthorized", 'Account is not valid, has status "deactivated"', times=2)
    gate.renew(name)
    assert gate.shown(name) not in (None, before)
    gate.wait_for_log(
        "WARN",
        "the account is of no use any more, another is made: "
        'the authority says: Account is not valid, has status "deactivated" (unauthorized)',
    )


def test_the_operator_writes_another_address(scene: Scene) -> None:
    name = f"contact.{PLAIN}"
    gate = scene.start_gate(name)
    gate.wait_for_certificate(name)
    gate.config["acme"]["email"] = "berta@example.org"
    gate.reload()
    gate.renew(name)
    gate.wait_for_log("INFO", "the account's contact was changed")
    assert scene.front.asked["account"] == 1
