"""Putting the application on Ray: on one node that is started here, or on a cluster."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from calotype.api.door import has_tokens
from calotype.catalog.catalog import Catalog
from calotype.environment import ray_address
from calotype.errors import InvalidSettingError
from calotype.scale.application import FRONT, NAME, build_application, listening
from calotype.scale.weights_source import start_source, stop_source
from calotype.settings import Settings

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EVERYWHERE = "EveryNode"
"""Each node of a cluster answers HTTP."""
BIND = "Failed to bind"
"""What Ray says of an address that is taken."""
SLACK_S = 5.0
"""What the answers get on their way out once the jobs are done."""


def serve_on_ray(
    settings: Settings, catalog: Catalog, greet: Callable[[], None], *, detach: bool
) -> None:
    """Deploy, and serve until a signal comes; then let what is in work finish.

    On a cluster where the application runs already it is replaced, one replica after the other.

    Args:
        settings: what the operator decided.
        catalog: the models.
        greet: called once requests are answered.
        detach: leave it running there, and return at once.

    Raises:
        InvalidSettingError: there is no cluster at that address, or theirs to listen on is taken.
    """
    if detach and not ray_address():
        raise InvalidSettingError(
            "--detach leaves the application on a cluster: set RAY_ADDRESS to the address of one"
        )
    with _ray(local=True):
        _start(settings)
        _check_address(settings)
        spread = bool(ray_address())
        if spread:
            start_source(settings)
        closed = has_tokens(settings, unknown=False)
        application = build_application(settings, catalog, spread=spread, closed=closed)
        serve.run(application, name=NAME, route_prefix="/")
        greet()
        if not detach:
            _until_signal()
            _end(settings)


def stop() -> bool:
    """Take the application off the cluster; False if it wasn't there.

    Raises:
        InvalidSettingError: there is no cluster.
    """
    with _ray(local=False):
        is_there = NAME in serve.status().applications
        if is_there:
            serve.delete(NAME)
            stop_source()
        return is_there


@contextlib.contextmanager
def _ray(*, local: bool) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray here; let go of it at the end.

    Args:
        local: whether it may be started here.

    Raises:
        InvalidSettingError: there is none.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    address, own = ray_address(), dict[str, object]()
    if not address:
        if not local:
            raise InvalidSettingError("RAY_ADDRESS must name the cluster, as HOST:6379 or auto")
        own = {"include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.WARNING, **own)
    except ConnectionError as error:
        raise InvalidSettingError(f"no Ray cluster answers at {address}: {error}") from error
    except Exception as error:  # that is what Ray raises
        raise InvalidSettingError(f"Ray could not be started: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start(settings: Settings) -> None:
    """Start Serve, unless the cluster runs it already.

    Raises:
        InvalidSettingError: something else listens at that address.
    """
    try:
        serve.start(
            proxy_location=EVERYWHERE,
            http_options={"host": settings.host, "port": settings.port},
            logging_config=LoggingConfig(log_level="WARNING"),
        )
    except RuntimeError as error:
        if BIND not in str(error):
            raise
        serve.shutdown()  # else the next start would find it, with that address
        raise InvalidSettingError(
            f"Ray cannot listen on {settings.host} port {settings.port}: something else does;"
            " choose another port with --port"
        ) from error


def _check_address(settings: Settings) -> None:
    """Refuse an address that the proxies, which run already, don't have: theirs may be open to all.

    Raises:
        InvalidSettingError: they listen on another.
    """
    host, port = listening()
    if (host, port) != (settings.host, settings.port):
        raise InvalidSettingError(
            f"this cluster answers on {host} port {port} already, got {settings.host} port"
            f" {settings.port}: say the same, or run `serve shutdown` first"
        )


def _until_signal() -> None:
    """Wait for the first signal; from then on a second one ends everything at once."""
    ended = threading.Event()

    def heed(number: int, frame: FrameType | None) -> None:
        del frame
        if ended.is_set():
            os._exit(128 + number)  # the processes that Ray started here end with this one
        ended.set()

    for number in SIGNALS:
        signal.signal(number, heed)
    while not ended.wait(1.0):  # in turns: a signal wakes nobody who waits for a lock
        pass


def _end(settings: Settings) -> None:
    """Let what is in work finish, and take the application away."""
    logger.info("shutting down, with up to %g s for what is in work", settings.drain_s)
    try:
        front = serve.get_deployment_handle(FRONT, NAME)
        front._init(_run_router_in_separate_loop=True)  # this process has no loop
        answers = front.broadcast("drain").results(timeout_s=settings.drain_s + SLACK_S)
    except Exception:
        logger.exception("what is in work could not be waited for")
    else:
        if not all(answers):
            logger.warning("some was not done after %g s: cut off", settings.drain_s)
    if ray_address():
        serve.delete(NAME)
        stop_source()
    else:
        serve.shutdown()
