"""Debian's Prometheus, which scrapes a gate once a second with the alerts loaded, and answers queries."""

import json
import math
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ports import free_port
from waiting import wait_for

_GRAFANA = Path(__file__).parents[2] / "grafana"


class Prometheus:
    def __init__(self, directory: Path, gate_url: str) -> None:
        directory.mkdir()
        shutil.copy(_GRAFANA / "alerts.yaml", directory)
        scrape = {"job_name": "hearthgate", "static_configs": [{"targets": [gate_url.removeprefix("http://")]}]}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [scrape],
        }
        # JSON is YAML too.
        (directory / "prometheus.yaml").write_text(json.dumps(config))
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        command = ["prometheus", f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data"]
        with open(directory / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for("Prometheus has scraped the gate", self._is_up, 30)
        except BaseException:
            self.stop()
            raise

    def _is_up(self) -> bool:
        try:
            return bool(self.ask("query", query='up{job="hearthgate"} == 1')["result"])
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, endpoint: str, **parameters: object) -> dict:
        """What the HTTP API answers; an expression that it cannot read is an error."""
        url = f"{self._url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            answer = json.load(urllib.request.urlopen(url, timeout=20))
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is still starting
                raise
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def numbers(self, expression: str, begin: float, end: float) -> list[float]:
        """All numbers that an expression had from `begin` to `end`, looked at every second."""
        series = self.ask("query_range", query=expression, start=begin, end=end, step=1)["result"]
        found = (float(value) for line in series for _, value in line["values"])
        return [number for number in found if not math.isnan(number)]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
