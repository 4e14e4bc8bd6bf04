"""A thousand handshakes a second while certificates are renewed."""

import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from certificate_gate import CertificateGate, Shown
from name_servers import PLAIN
from scene import Scene

_RATE, _SECONDS, _RENEWALS = 1000, 8, 2
# h2load counts up to the last answer of the last connection.
_RATE_AS_MEASURED = 0.97 * _RATE
# A round in which the machine had other things to do proves less: another one follows.
_ROUNDS = 3


class _Load:
    """h2load with a connection, and so a whole handshake, for each request; h2load offers no session for resumption."""

    def __init__(self, gate: CertificateGate, name: str) -> None:
        count = _RATE * _SECONDS
        self._process = subprocess.Popen(
            [
                "h2load", f"--requests={count}", f"--clients={count}", f"--rate={_RATE}",
                f"--connect-to=127.0.0.1:{gate.https_port}", gate.url(name) + "/",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def is_running(self) -> bool:
        return self._process.poll() is None

    def rate(self) -> float:
        """Waits for the end; connections a second, none of which may have failed."""
        said = self._process.communicate(timeout=60)[0]
        counts = re.search(r"(\d+) total, \d+ started, (\d+) done, .* (\d+) errored, (\d+) timeout", said)
        assert counts, said
        assert [int(count) for count in counts.groups()] == [_RATE * _SECONDS, _RATE * _SECONDS, 0, 0], said
        return _RATE * _SECONDS / float(re.search(r"finished in ([\d.]+)s", said)[1])


class _Watch:
    """A client that verifies what it is shown, over and over."""

    def __init__(self, gate: CertificateGate, name: str) -> None:
        self._gate, self._name = gate, name
        self._over = threading.Event()
        self._tls = gate.pebble.context()
        self.seen: Counter[Shown] = Counter()
        self.errors: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator["_Watch"]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.02):
            try:
                self.seen[self._gate.handshake(self._name, self._tls)] += 1
            except OSError as error:
                self.errors[f"{type(error).__name__}: {error}"] += 1


def test_no_handshake_fails_while_certificates_are_renewed(
    scene: Scene, record_figure: Callable[[str, object], None]
) -> None:
    name = f"busy.{PLAIN}"
    gate = scene.start_gate(name, limits={"connections": 6000, "connections_per_client": 6000})
    gate.wait_for_certificate(name)
    # Answered by the gate alone, with 502: it is the handshakes that count.
    gate.config["hosts"][name]["upstream"] = "http://127.0.0.1:9"
    gate.reload()
    rates = []
    with _Watch(gate, name).running() as watch:
        while len(rates) < _ROUNDS and max(rates, default=0) < _RATE_AS_MEASURED:
            load = _Load(gate, name)
            for _ in range(_RENEWALS):
                gate.renew(name)
            assert load.is_running(), "the renewals took longer than the load"
            rates.append(load.rate())
    record_figure("handshakes a second during renewals", [round(rate) for rate in rates])
    record_figure("handshakes verified beside them", watch.seen.total())
    assert watch.errors == {}
    assert len(watch.seen) == _RENEWALS * len(rates) + 1
    assert max(rates) >= _RATE_AS_MEASURED
