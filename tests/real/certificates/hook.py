"""A script as lego's `exec` provider calls it, `present|cleanup FQDN VALUE`, which tells BIND by `nsupdate`."""

from pathlib import Path

from name_servers import PRIMARY, NameServers

_SCRIPT = """#!/bin/sh
set -eu
echo "$*" >>"{log}"
case "$1" in
  present) change="add $2 1 TXT \\"$3\\"" ;;
  cleanup) change="delete $2 TXT \\"$3\\"" ;;
  *) echo "no such action: $1" >&2 && exit 2 ;;
esac
printf 'server {primary}\\nupdate %s\\nsend\\n' "$change" | nsupdate -k "{key}"
"""


class Hook:
    def __init__(self, directory: Path, servers: NameServers) -> None:
        directory.mkdir(parents=True)
        self.command = directory / "hook"
        self._log = directory / "hook.log"
        self.command.write_text(_SCRIPT.format(log=self._log, primary=PRIMARY, key=servers.nsupdate_key))
        self.command.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """The arguments of each call so far."""
        return [line.split() for line in self._log.read_text().splitlines()] if self._log.exists() else []
