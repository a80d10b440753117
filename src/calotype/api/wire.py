"""From an HTTP request to an ``ImageRequest``: bodies and headers as the wire contract has them."""

from collections.abc import Mapping

from starlette.types import Receive

from calotype.api.body import arriving, read_body, read_payload
from calotype.api.exchange import Exchange
from calotype.api.header import read_wishes
from calotype.api.negotiation import accepted_formats
from calotype.domain.chain import Chain
from calotype.domain.hooks import Hooks
from calotype.domain.request import ImageFormat, ImageRequest
from calotype.settings import Settings


async def read_request(
    exchange: Exchange,
    receive: Receive,
    chain: Chain,
    caller: str,
    settings: Settings,
    *,
    hooks: Hooks,
    is_job: bool = False,
) -> tuple[ImageRequest, tuple[str, ...]]:
    """Read a request to its last byte.

    Args:
        exchange: its headers, and the time it began, from which its deadline counts.
        receive: where the body comes from.
        chain: what will run.
        caller: name of the token.
        settings: limits and defaults.
        hooks: of its job to be.
        is_job: whether nobody holds a connection for it.

    Returns:
        The request, and warnings of what was ignored in it.

    Raises:
        RequestError: it cannot be understood.
        DeadlineExceededError: its deadline passed before all of it was here.
        ClientGoneError: its client left before that.
    """
    wishes = read_wishes(exchange.headers, settings, is_job=is_job)
    async with arriving(wishes.body_s):
        body = await read_body(receive, exchange.headers, settings.max_upload_bytes)
    exchange.received(len(body))
    images = {p.name for model in chain.models for p in model.params if p.type == "image"}
    payload = await read_payload(body, images, chain.addresses, strict=wishes.strict)
    request = ImageRequest(
        model_id=chain.spec.id,
        upload=payload.upload,
        parameters=payload.parameters,
        formats=_formats(exchange.headers.get(b"accept", b""), payload.parameters, chain),
        use_cache=_chosen(wishes.use_cache, payload.use_cache, default=True),
        wait_for_model=_chosen(wishes.wait_for_model, payload.wait_for_model, default=is_job),
        strict=wishes.strict,
        deadline_s=exchange.started_s + wishes.deadline_s,
        caller=caller,
        request_id=exchange.request_id,
        hooks=hooks,
    )
    return request, payload.warnings


def _formats(
    accept: bytes, parameters: Mapping[str, object], chain: Chain
) -> tuple[ImageFormat, ...]:
    """Return what the client accepts; ``output_format`` beats whatever the header says."""
    last = len(chain.models) - 1
    own = (parameters.get(name) for name, where in chain.addresses.items() if last in where)
    tables = (parameters, *(table for table in own if isinstance(table, Mapping)))
    asked = any(table.get("output_format") is not None for table in tables)
    return () if asked else accepted_formats(accept)


def _chosen(header: bool | None, body: bool | None, *, default: bool) -> bool:
    """Return a header's wish, else the body's, else the default."""
    if header is not None:
        return header
    return default if body is None else body
