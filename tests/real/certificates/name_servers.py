"""Three BIND servers on loopback: a primary, a secondary that follows it, and a resolver that knows both.

The zones are those of the tests. The primary takes dynamic updates: from `gate-key` in the zones that the gate may
change, from `feeder` in all of them, which is how the stand-ins for providers publish what they were told.
"""

import base64
import secrets
import subprocess
from pathlib import Path

from processes import Part
from waiting import wait_for

PRIMARY, SECONDARY, RESOLVER = "127.0.53.1", "127.0.53.2", "127.0.53.3"
GATE_KEY, FEEDER = "gate-key", "feeder"
# All addresses of all names, but for those that dynamic DNS sets.
HERE = "127.0.0.1"

# Those that the gate may change itself.
HOME = "home.test"
DELEGATED = "delegated.test"
# The secondary hears of changes only when it asks, some seconds later.
SLOW = "slow.test"
# The secondary never hears of any change.
STUCK = "stuck.test"
# Those that a stand-in or a hook changes.
DUCKDNS = "duckdns.org"
CLOUD, INNER_CLOUD = "cloud.test", "inner.cloud.test"
HOOKED = "hook.test"
# That nobody changes.
PLAIN = "plain.test"

_OPEN_TO_GATE = (HOME, DELEGATED, SLOW, STUCK)
_ZONES = (*_OPEN_TO_GATE, DUCKDNS, CLOUD, INNER_CLOUD, HOOKED, PLAIN)
# What the secondary does by itself: seconds between two looks at the primary.
_REFRESH = {SLOW: 4, STUCK: 86_400}


class NameServers:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self.keys = {name: base64.b64encode(secrets.token_bytes(32)).decode() for name in (GATE_KEY, FEEDER)}
        self._feeder = directory / "feeder.key"
        self._feeder.write_text(self._key(FEEDER))
        self._addresses("replace")
        self._parts: list[Part] = []
        try:
            # The secondary fetches what the primary has, once.
            for name, address in (("primary", PRIMARY), ("secondary", SECONDARY), ("resolver", RESOLVER)):
                self._parts.append(self._start(name))
                self._parts[-1].wait_until("it answers", lambda address=address: self._answers(address))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for part in self._parts:
            part.stop()
        self._addresses("delete")

    def _addresses(self, change: str) -> None:
        # BIND listens on addresses that an interface has, not on all that reach this machine.
        for address in (PRIMARY, SECONDARY, RESOLVER):
            subprocess.run(["ip", "address", change, f"{address}/32", "dev", "lo"], check=True, timeout=10)

    def update(self, *changes: str) -> None:
        """Changes the primary by `nsupdate`; each change in its words, such as `delete NAME TXT`."""
        script = [f"server {PRIMARY}", *(f"update {change}" for change in changes), "send", ""]
        subprocess.run(
            ["nsupdate", "-k", self._feeder], input="\n".join(script), text=True, check=True, capture_output=True,
            timeout=20,
        )  # fmt: skip

    def ask(self, name: str, kind: str, server: str = PRIMARY) -> list[str]:
        """What `server` answers, texts without their quotes."""
        done = subprocess.run(
            ["dig", f"@{server}", "+short", "+tries=1", "+time=2", name, kind],
            capture_output=True,
            text=True,
            timeout=20,
        )
        return [line.strip('"') for line in done.stdout.splitlines() if not line.startswith(";")]

    def settle(self, name: str, kind: str) -> None:
        """Waits until the secondary says what the primary says."""
        wait_for(f"{kind} of {name} on both servers", lambda: self.ask(name, kind) == self.ask(name, kind, SECONDARY))

    @property
    def nsupdate_key(self) -> Path:
        """The feeder's key, for a script that calls `nsupdate` itself."""
        return self._feeder

    def _answers(self, address: str) -> bool:
        return all(self.ask(zone, "A", address) == [HERE] for zone in (HOME, STUCK, PLAIN))

    def _start(self, name: str) -> Part:
        directory = self._directory / name
        directory.mkdir()
        write = {"primary": self._primary, "secondary": self._secondary, "resolver": self._resolver}[name]
        (directory / "named.conf").write_text(write(directory))
        return Part(["named", "-g", "-4", "-n", "1", "-c", directory / "named.conf"], directory)

    def _key(self, name: str) -> str:
        return f'key "{name}" {{ algorithm hmac-sha256; secret "{self.keys[name]}"; }};\n'

    def _primary(self, directory: Path) -> str:
        text = _options(
            directory,
            PRIMARY,
            f"recursion no; notify explicit; notify-source {PRIMARY}; allow-transfer {{ {SECONDARY}; }};",
        )
        text += "".join(map(self._key, self.keys))
        for zone in _ZONES:
            (directory / zone).write_text(_zone_file(zone))
            allowed = [FEEDER, GATE_KEY] if zone in _OPEN_TO_GATE else [FEEDER]
            notified = "" if zone in _REFRESH else f"also-notify {{ {SECONDARY}; }};"
            text += (
                f'zone "{zone}" {{ type primary; file "{directory / zone}"; {notified}'
                f" allow-update {{ {' '.join(f'key {key};' for key in allowed)} }}; }};\n"
            )
        return text

    def _secondary(self, directory: Path) -> str:
        text = _options(
            directory, SECONDARY, f"recursion no; notify no; transfer-source {SECONDARY}; min-refresh-time 1;"
        )
        for zone in _ZONES:
            text += f'zone "{zone}" {{ type secondary; file "{directory / zone}"; primaries {{ {PRIMARY}; }}; }};\n'
        return text

    def _resolver(self, directory: Path) -> str:
        # What was absent may be there a second later: as long as `_zone_file` says.
        text = _options(directory, RESOLVER, f"recursion yes; query-source address {RESOLVER}; qname-minimization off;")
        for zone in _ZONES:
            text += f'zone "{zone}" {{ type static-stub; server-addresses {{ {PRIMARY}; }}; }};\n'
        return text


def _options(directory: Path, address: str, more: str) -> str:
    return (
        f'options {{ directory "{directory}"; listen-on port 53 {{ {address}; }}; listen-on-v6 {{ none; }};\n'
        f'  pid-file none; session-keyfile "{directory}/session.key"; dnssec-validation no; empty-zones-enable no;\n'
        f"  notify-delay 0; serial-query-rate 1000; max-cache-size 16m; max-cache-ttl 1; max-ncache-ttl 1;\n"
        f"  allow-query {{ any; }}; {more} }};\ncontrols {{ }};\n"
    )


def _zone_file(zone: str) -> str:
    refresh = _REFRESH.get(zone, 3600)
    return (
        "$TTL 1\n"
        f"@ SOA ns1 hostmaster 1 {refresh} 1 864000 1\n"
        f"@ NS ns1\n@ NS ns2\nns1 A {PRIMARY}\nns2 A {SECONDARY}\n@ A {HERE}\n* A {HERE}\n"
    )
