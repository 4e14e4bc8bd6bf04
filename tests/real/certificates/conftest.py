"""What the tests of certificates stand on: Pebble, BIND, stand-ins for providers, and gates without Home Assistant."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from address_source import AddressSource
from authority import Authority, CertificateFiles
from cloudflare import Cloudflare
from duckdns import DuckDns
from echo import Echo
from hook import Hook
from name_servers import GATE_KEY, PRIMARY, NameServers
from pebble import Rules
from scene import Scene, StartScene

_ORDINARY = Rules()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What all others have written is searched last.
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "last: runs after all others")


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where logs and what was printed stay: `target/real/certificates`."""
    directory = Path(__file__).parents[3] / "target" / "real" / "certificates"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


@pytest.fixture(scope="session")
def secrets_used() -> dict[str, str]:
    """Every secret that a gate was told, by what it is; none may be found in what any gate has written."""
    return {}


@pytest.fixture(scope="session")
def files(authority: Authority) -> CertificateFiles:
    """For all servers on this machine that speak TLS."""
    return authority.issue("localhost", "localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="session")
def servers(artifacts: Path, secrets_used: dict[str, str]) -> Iterator[NameServers]:
    if os.geteuid() != 0:
        pytest.skip("name servers are asked at port 53, which only root may open")
    started = NameServers(artifacts / "bind")
    secrets_used["TSIG key"] = started.keys[GATE_KEY]
    yield started
    started.stop()


@pytest.fixture
def start_scene(
    artifacts: Path, authority: Authority, files: CertificateFiles, echo: Echo, secrets_used: dict[str, str],
    servers: NameServers, request: pytest.FixtureRequest,
) -> Iterator[StartScene]:  # fmt: skip
    """Starts authorities for one test. All of them ask `servers` for names."""
    scenes: list[Scene] = []

    def start(rules: Rules = _ORDINARY) -> Scene:
        directory = artifacts / f"scene-{len(list(artifacts.glob('scene-*'))):03}"
        directory.mkdir()
        (directory / "story").write_text(request.node.nodeid + "\n")
        if rules.external_key:
            secrets_used[f"external account key of {directory.name}"] = rules.external_key
        scenes.append(Scene(directory, rules, authority, files, echo.url))
        return scenes[-1]

    yield start
    for scene in scenes:
        scene.stop()


@pytest.fixture
def scene(start_scene: StartScene) -> Scene:
    """The newest Pebble with nothing out of the ordinary."""
    return start_scene()


@pytest.fixture
def duckdns(servers: NameServers, secrets_used: dict[str, str]) -> Iterator[DuckDns]:
    stand_in = DuckDns(servers, "anna", "berta")
    secrets_used[f"DuckDNS token {len(secrets_used)}"] = stand_in.token
    yield stand_in
    stand_in.stop()


@pytest.fixture
def cloudflare(servers: NameServers, secrets_used: dict[str, str]) -> Iterator[Cloudflare]:
    stand_in = Cloudflare(servers)
    secrets_used[f"Cloudflare token {len(secrets_used)}"] = stand_in.token
    yield stand_in
    stand_in.stop()


@pytest.fixture
def hook(servers: NameServers, tmp_path: Path) -> Hook:
    return Hook(tmp_path / "hook", servers)


@pytest.fixture
def address_source(files: CertificateFiles) -> Iterator[AddressSource]:
    source = AddressSource(files)
    yield source
    source.stop()


@pytest.fixture(scope="session")
def rfc2136(servers: NameServers) -> Callable[..., dict]:
    """An entry below `dns:` for the zones that the gate may change itself."""

    def account(**changes: object) -> dict:
        key = {"key_name": GATE_KEY, "key": servers.keys[GATE_KEY]}
        return {"provider": "rfc2136", "server": PRIMARY, **key} | changes

    return account
