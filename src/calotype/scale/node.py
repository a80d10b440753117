"""What a machine needs before Ray is imported there; knows nothing of Ray itself."""

import logging
from importlib.util import find_spec

from calotype.environment import tell_children, untold
from calotype.errors import MissingExtraError

logger = logging.getLogger(__name__)

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "268435456"}
"""For what carries pictures: memory that is given back after each would be cleared for the next.
The processes of models must not have it, as what they hold is measured, and counted on."""
ENVIRONMENT = {
    # Whoever holds a connection sends a request again whose server is lost: see ``scale.door``.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "calotype.scale.door:middlewares",
    # Messages instead of the object store: 4 ms in place of 6 for 512x512 pixels there and back.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Of such a message, in bytes: none, for an answer is one, and Ray's own limit is 4 MiB.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": "-1",
    # One loop a process: what is called on it never blocks, and each hand-over between loops costs.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    **MALLOC,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_COLOR_PREFIX": "0",
    # Lines of our log differ in their request ids only, and Ray would leave out all but the first.
    "RAY_DEDUP_LOGS": "0",
}
"""Of every node: Ray's processes read it when they start."""


def warn_of_missing() -> None:
    """Say what Ray wasn't told where this process runs."""
    if missing := untold(ENVIRONMENT):
        logger.warning(
            "Ray was started here without %s: large pictures may fail, and a request is answered"
            " with an error whose server is lost; start it with what `calotype cluster environment`"
            " prints",
            ", ".join(missing),
        )


def prepare() -> None:
    """Say to this process, and to those that it starts, how Ray is to run.

    Raises:
        MissingExtraError: Ray isn't installed.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("clusters need Ray: pip install 'calotype[ray]'")
    tell_children(ENVIRONMENT)
