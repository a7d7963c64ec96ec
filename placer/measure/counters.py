"""Hardware counters of a replica process, where the host has them and `perf` to read them."""

from __future__ import annotations

import shutil
import subprocess

EVENTS = {
    "instructions": "instructions",
    "cycles": "cycles",
    "LLC-load-misses": "llc_misses",
}
COLUMNS = tuple(f"{name}_per_request" for name in EVENTS.values())
TRIAL_SECONDS = 5.0


class Counters:
    """Reads counters through the `perf` program; `available` is False on most virtual machines."""

    def __init__(self, program: str = "perf") -> None:
        self._program = shutil.which(program)
        self.available = self._program is not None and bool(self._trial())

    def _trial(self) -> dict[str, float]:
        try:
            done = subprocess.run(
                self._command("true"), capture_output=True, text=True, timeout=TRIAL_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        return parse(done.stderr)

    def _command(self, *rest: str) -> list[str]:
        return [str(self._program), "stat", "-x", ",", "-e", ",".join(EVENTS), *rest]

    def start(self, process: int, seconds: float) -> subprocess.Popen[str] | None:
        """Begin to count what a process does for some seconds; None where nothing can be read."""
        if not self.available:
            return None
        command = self._command(
            "-p", str(process), "--timeout", str(max(round(1000 * seconds), 10))
        )
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def finish(self, counting: subprocess.Popen[str] | None, requests: float) -> dict[str, float]:
        """Return the columns per request that were counted; empty where nothing was."""
        if counting is None or requests <= 0:
            return {}
        try:
            _, text = counting.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            counting.kill()
            return {}
        return {f"{name}_per_request": value / requests for name, value in parse(text).items()}


def parse(text: str) -> dict[str, float]:
    """Return the counters in the output of `perf stat -x ,`; what is not supported is left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        fields = line.split(",")
        event = fields[2].split(":")[0] if len(fields) > 2 else ""
        if event in EVENTS and fields[0].replace(".", "", 1).isdigit():
            found[EVENTS[event]] = float(fields[0])
    return found
