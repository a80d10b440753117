"""Ray Serve serving what the fake model of Calotype does: decode a JPEG, do nothing, encode it.

    python ray_peer.py --port 8001 --replicas 2 [--throughput]

Runs in an environment that has Ray. One node, its proxy and its replicas in processes of their own;
the picture is the body itself. The dashboard and the reports of use are off.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
if "--throughput" in sys.argv:  # read when Ray is imported
    os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"

import jpeg  # type: ignore[import-not-found]
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

CORES = 2
MOST_ONGOING = 1000
"""The default is 5 a replica: with more clients than that the proxy holds them back."""


class Echo:
    """Answers with the picture that it got."""

    def __init__(self) -> None:
        jpeg.set_up()

    async def __call__(self, request: Request) -> Response:
        """Decode, do nothing, encode."""
        pixels = self.run(jpeg.decode(await request.body()))
        return Response(jpeg.encode(pixels), media_type="image/jpeg")

    def run(self, pixels: Any) -> Any:  # noqa: ANN401  an array
        """Do nothing."""
        return pixels


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--throughput", action="store_true", help="Ray's settings for that")
    told = parser.parse_args()
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            num_cpus=CORES,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        serve.start(http_options={"host": "127.0.0.1", "port": told.port})
        app = serve.deployment(num_replicas=told.replicas, max_ongoing_requests=MOST_ONGOING)(Echo)
        serve.run(app.bind(), route_prefix="/predict")
        ended.wait()
        ray.shutdown()


if __name__ == "__main__":
    main()
