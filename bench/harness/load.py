"""Load from wrk, which reports every percentile asked for through a Lua script."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests":%d,"seconds":%.6f,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d}\\n',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""


class Load(msgspec.Struct, frozen=True):
    """What wrk saw; `errors` are failed connections and answers that are no success."""

    requests: int
    seconds: float
    errors: int
    p50_us: int
    p99_us: int
    p999_us: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def wrk(port: int, seconds: float, connections: int, script: str) -> Load:
    """Run wrk with one thread; `script` sets up its requests."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "load.lua"
        path.write_text(script + _DONE)
        done = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds:g}s",
                "--timeout",
                "10s",
                "-s",
                str(path),
                f"http://127.0.0.1:{port}",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Load)
