"""What every test stands on: a real Home Assistant, a gate in front of it, and clients that trust its certificate."""

import asyncio
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authority import Authority, CertificateFiles
from clients import Clients
from curl import Curl
from echo import Echo
from gate import Gate
from home_assistant import HomeAssistant
from household import Household
from long_lived import LongLived

HOST = "ha.example.test"
ECHO_HOST = "other.example.test"
TRUSTED_PROXY = "127.0.0.2"
PROXY_PROTOCOL_PEER = "127.0.0.3"
# No test waits longer than this, but those that look at the long-lived connections.
TEST_SECONDS = 240


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--release", default="2025.4.4", help="the release of Home Assistant, or: newest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What began with the session is looked at last, so that waiting for it costs little.
    items.sort(key=lambda item: "long_lived" in item.fixturenames)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test in an event loop of its own, bounded in time."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    story = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    asyncio.run(asyncio.wait_for(story, TEST_SECONDS))
    return True


@pytest.fixture(scope="session")
def artifacts(request: pytest.FixtureRequest) -> Path:
    """Where logs, screenshots and figures of this run stay: `target/real/RELEASE`."""
    directory = Path(__file__).parents[2] / "target" / "real" / request.config.getoption("--release")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


@pytest.fixture(scope="session")
def home_assistant(request: pytest.FixtureRequest) -> Iterator[HomeAssistant]:
    instance = HomeAssistant(request.config.getoption("--release"), "real", "--totp-user", "careful")
    yield instance
    instance.forget()


@pytest.fixture(scope="session")
def household(home_assistant: HomeAssistant) -> Household:
    return Household(home_assistant)


@pytest.fixture(scope="session")
def echo() -> Iterator[Echo]:
    upstream = Echo()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def authority(artifacts: Path) -> Authority:
    return Authority(artifacts / "certificates")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> CertificateFiles:
    return authority.issue("first", HOST, ECHO_HOST)


@pytest.fixture(scope="session")
def host_entry(certificate: CertificateFiles) -> Callable[..., dict]:
    """One entry below `hosts:`."""

    def entry(upstream: str, app: str, files: CertificateFiles = certificate) -> dict:
        return {
            "upstream": upstream,
            "app": app,
            "certificate": {"chain_file": str(files.chain), "key_file": str(files.key)},
        }

    return entry


@pytest.fixture(scope="session")
def _gates(artifacts: Path) -> Iterator[Callable[..., Gate]]:
    """Starts gates, each in a directory of its own, and ends all of them."""
    gates: list[Gate] = []

    def start(name: str, hosts: dict, **sections: dict) -> Gate:
        # Short, for the path of a Unix socket has some 100 bytes.
        gates.append(Gate(artifacts / f"gate-{len(gates)}", hosts, **sections))
        (gates[-1].directory / "story").write_text(name + "\n")
        return gates[-1]

    yield start
    for gate in gates:
        gate.stop()


@pytest.fixture
def start_gate(_gates: Callable[..., Gate], request: pytest.FixtureRequest) -> Iterator[Callable[..., Gate]]:
    """Starts further gates for one test."""
    started: list[Gate] = []

    def start(hosts: dict, **sections: dict) -> Gate:
        started.append(_gates(request.node.name, hosts, **sections))
        return started[-1]

    yield start
    for gate in started:
        gate.stop()


@pytest.fixture(scope="session")
def hosts(home_assistant: HomeAssistant, echo: Echo, host_entry: Callable[..., dict]) -> dict:
    """The `hosts:` of a gate in front of Home Assistant and the echo."""
    return {HOST: host_entry(home_assistant.url, "home_assistant"), ECHO_HOST: host_entry(echo.url, "generic")}


@pytest.fixture(scope="session")
def start_shared_gate(_gates: Callable[..., Gate]) -> Callable[..., Gate]:
    """Starts a gate that believes the proxies of these tests, for many tests."""

    def start(name: str, hosts: dict, **sections: dict) -> Gate:
        return _gates(
            name,
            hosts,
            listen={"proxy_protocol_from": [f"{PROXY_PROTOCOL_PEER}/32"]},
            trusted_proxies={"networks": [f"{TRUSTED_PROXY}/32"], "header": "x-forwarded-for"},
            **sections,
        )

    return start


@pytest.fixture(scope="session")
def gate(start_shared_gate: Callable[..., Gate], hosts: dict) -> Gate:
    """The gate that most tests share, guarded as by default. Nobody stops or reloads it."""
    return start_shared_gate("shared", hosts)


@pytest.fixture(scope="session")
def clients_of(authority: Authority) -> Callable[..., Clients]:
    def clients(gate: Gate, host: str = HOST) -> Clients:
        return Clients(gate.url(host), gate.https_port, authority.context())

    return clients


@pytest.fixture(scope="session")
def curl_of(authority: Authority) -> Callable[..., Curl]:
    def curl(gate: Gate, host: str = HOST) -> Curl:
        return Curl(gate.https_port, authority.certificate, host)

    return curl


@pytest.fixture(scope="session")
def clients(gate: Gate, clients_of: Callable[..., Clients]) -> Clients:
    return clients_of(gate)


@pytest.fixture(scope="session")
def curl(gate: Gate, curl_of: Callable[..., Curl]) -> Curl:
    return curl_of(gate)


@pytest.fixture(scope="session")
def long_lived(clients: Clients, home_assistant: HomeAssistant) -> Iterator[LongLived]:
    """The connections that are watched beside all other tests."""
    watched = LongLived(clients, home_assistant.token)
    yield watched
    watched.stop()


@pytest.fixture(scope="session", autouse=True)
def _begin_long_lived(request: pytest.FixtureRequest) -> None:
    """Begins them with the session when any selected test will look at them."""
    if any("long_lived" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("long_lived")


@pytest.fixture(scope="session")
def _figures(artifacts: Path, request: pytest.FixtureRequest) -> dict[str, object]:
    figures: dict[str, object] = {}
    request.config.stash[_FIGURES] = figures
    return figures


@pytest.fixture
def record_figure(_figures: dict[str, object]) -> Callable[[str, object], None]:
    """Keeps a measured value for the summary at the end of the run."""
    return _figures.__setitem__


_FIGURES = pytest.StashKey[dict]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(_FIGURES, {}).items():
        terminalreporter.write_line(f"figure: {name}: {value}")
