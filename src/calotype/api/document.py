"""Answers that are JSON."""

import json
from collections.abc import Mapping

from starlette.responses import Response


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Write JSON as ASCII, so that whatever text a client sent can be shown back."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, int(status), headers, media_type="application/json")
