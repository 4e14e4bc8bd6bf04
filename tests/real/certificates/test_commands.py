"""What the operator sees: `hearthgate certificates`, `status`, and the metrics."""

import json
import re
import time

from authority import Authority
from name_servers import PLAIN
from scene import Scene


def test_where_each_certificate_comes_from(scene: Scene, authority: Authority) -> None:
    asked, filed, own = (f"{word}.{PLAIN}" for word in ("asked", "filed", "own"))
    files = authority.issue("filed", filed)
    plain_host = {key: value for key, value in scene.host().items() if key != "certificate"}
    in_files = plain_host | {"certificate": {"chain_file": str(files.chain), "key_file": str(files.key)}}
    gate = scene.start_gate(asked, host={"names": [asked, f"too.{PLAIN}"]}, hosts={filed: in_files, own: plain_host})
    gate.wait_for_certificate(asked)
    gate.wait_for_log("INFO", "a certificate is had and served")

    listed = json.loads(gate.certificates("list", "--json"))["certificates"]
    assert [(entry["host"], entry["source"]) for entry in listed] == [
        (asked, "acme"),
        (filed, "files"),
        (own, "self_signed"),
    ]
    assert [entry["served"]["self_signed"] for entry in listed] == [False, False, True]
    assert [entry["acme"] is None for entry in listed] == [False, True, True]
    table = gate.certificates("list").splitlines()
    assert re.split(r"\s{2,}", table[0])[:3] == ["HOST", "SOURCE", "EXPIRES"]
    assert re.search(rf"^{asked}\s+acme\s+in 89d", table[1])

    # By any of its names.
    for name in (asked, f"too.{PLAIN}"):
        assert json.loads(gate.certificates("show", name, "--json"))["acme"]["name"] == asked
    text = gate.certificates("show", asked)
    assert all(part in text for part in (asked, f"too.{PLAIN}", "acme", "Pebble"))
    stranger = gate.run("certificates", "show", "stranger.example.org")
    assert stranger.returncode != 0 and "`hearthgate certificates list` shows all" in stranger.stderr
    # What is not the gate's to renew.
    assert filed in gate.fail_to_renew(filed)


def test_asking_for_all_with_and_without_waiting(scene: Scene) -> None:
    one, two = f"one.{PLAIN}", f"two.{PLAIN}"
    gate = scene.start_gate(one, hosts={two: scene.host()})
    first = {name: gate.wait_for_certificate(name) for name in (one, two)}
    said = gate.certificates("renew", "--all")
    assert all(f"{name}: had, valid until " in said for name in (one, two))
    second = {name: gate.shown(name) for name in (one, two)}
    assert all(second[name] not in (None, first[name]) for name in (one, two))
    assert f"{one}: asked for" in gate.certificates("renew", one, "--no-wait")
    gate.wait_for_certificate(one, second[one])
    reports = json.loads(gate.certificates("renew", two, "--json"))
    assert [(report["name"], report["last_error"]) for report in reports] == [(two, None)]


def test_what_is_measured(scene: Scene) -> None:
    name = f"measured.{PLAIN}"

    def sample(metric: str, *labels: str) -> float:
        found = re.search(rf"^hearthgate_{metric}\{{{','.join(labels)}\}} (\S+)$", gate.metrics(), re.MULTILINE)
        assert found, f"no {metric}{labels} in\n" + "\n".join(gate.metrics().splitlines())[-3000:]
        return float(found[1])

    mine = f'certificate="{name}"'
    gate = scene.start_gate(name)
    seen = gate.wait_for_certificate(name)
    gate.wait_for_log("INFO", "a certificate is had and served")
    time.sleep(0.5)
    assert time.time() - 30 < sample("acme_last_success_timestamp_seconds", mine) < time.time() + 1
    assert time.time() < sample("acme_next_attempt_timestamp_seconds", mine) < seen.expires
    assert sample("acme_failing", mine) == 0
    assert sample("acme_orders_total", mine, 'outcome="success"') == 1
    scene.front.down()
    gate.fail_to_renew(name)
    assert sample("acme_orders_total", mine, 'outcome="failure"') == 1
    gate.wait_for_log("failures=1 ")
    time.sleep(0.5)
    assert sample("acme_failing", mine) == 1
    expires = "tls_certificate_not_after_timestamp_seconds"
    assert sample(expires, f'host="{name}"') == seen.expires
