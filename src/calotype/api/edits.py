"""POST a form as OpenAI's clients do, and get pictures in JSON."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.types import Receive, Scope, Send

from calotype.api.answer import Answers, without_content
from calotype.api.body import THREAD_FROM_BYTES, arriving, read_body
from calotype.api.control import Control, refuse_draining
from calotype.api.exchange import KEY, Exchange
from calotype.api.gate import Gate
from calotype.api.header import Wishes, read_wishes
from calotype.api.inference import Inference
from calotype.api.inflight import InFlight
from calotype.api.multipart import Form, read_form
from calotype.api.openai import Pictures, about_edit
from calotype.api.order import MASK, MASK_PARAMETER, Order, model_of, read_order, takes_mask
from calotype.api.presence import while_present
from calotype.api.record import Record
from calotype.api.series import draws, joined, run_all, share_hooks, with_seeds
from calotype.domain.chain import Chain
from calotype.domain.request import ImageRequest, ImageResponse
from calotype.errors import InvalidParameterError
from calotype.observe import metrics
from calotype.pipeline import Pipeline
from calotype.settings import Settings

_OF_ONE_FILE = (b"etag",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """An ASGI application that runs the model that a form names, the default where it names none.

    One request may ask for several pictures, and counts as one.
    """

    inference: Inference
    """Finds models."""
    pipeline: Pipeline
    control: Control
    in_flight: InFlight
    settings: Settings
    gate: Gate
    answers: Answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            CalotypeError: it cannot be served.
            ClientGoneError: its client left.
        """
        refuse_draining(self.control)  # before the body, which may be long
        exchange: Exchange = scope[KEY]
        caller = await self.gate.admit(exchange)
        wishes = read_wishes(exchange.headers, self.settings)
        record = self.in_flight.new(exchange, caller.name)
        with self.in_flight.holding(record):
            form, size_bytes = await self._form(exchange, receive, wishes)
            chain = await self.inference.chain(model_of(form), exchange, caller, waits=True)
            record.model_id = exchange.model
            exchange.received(size_bytes)
            order = await _understood(form, chain, size_bytes, strict=wishes.strict)
            first = await self._request(record, chain, order, wishes, exchange.started_s)
            requests, warnings = _series(first, chain, order)
            responses = await while_present(run_all(self.pipeline.run, requests), receive)
        if len(responses) < order.count:
            responses *= order.count
        await self._send(exchange, responses, order, warnings, send)

    async def _form(self, exchange: Exchange, receive: Receive, wishes: Wishes) -> tuple[Form, int]:
        """Read the body; return it and its size in bytes."""
        async with arriving(wishes.body_s):
            body = await read_body(receive, exchange.headers, self.settings.max_upload_bytes)
            return await read_form(body, exchange.headers), len(body)

    async def _request(
        self, record: Record, chain: Chain, order: Order, wishes: Wishes, started_s: float
    ) -> ImageRequest:
        """Return the request as the same one to ``/models`` would be."""
        parameters = order.parameters
        if (mask := order.holes) is not None:
            if takes_mask(chain):
                mask = await self.pipeline.codec.mask_of(mask, MASK)
            parameters = {**parameters, MASK_PARAMETER: mask}
        return ImageRequest(
            model_id=chain.spec.id,
            upload=order.upload,
            parameters=parameters,
            use_cache=wishes.use_cache is not False,
            wait_for_model=wishes.wait_for_model is not False,  # these clients can't ask for it
            strict=wishes.strict,
            deadline_s=started_s + wishes.deadline_s,
            caller=record.owner,
            request_id=record.request_id,
            hooks=record.hooks,
        )

    async def _send(
        self,
        exchange: Exchange,
        responses: Sequence[ImageResponse],
        order: Order,
        warnings: Sequence[str],
        send: Send,
    ) -> None:
        """Send the pictures, piece by piece."""
        whole = joined(responses)
        exchange.cache = whole.cache
        size = await self.pipeline.codec.size_of(whole.body)
        told = tuple(dict.fromkeys((*warnings, *whole.warnings)))
        about = about_edit(whole, size, int(time.time()), told)
        pictures = Pictures(about, responses, as_url=order.as_url)
        total_s = time.monotonic() - exchange.started_s
        own = self.answers.headers(replace(whole, warnings=()), told, total_s)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % pictures.size_bytes),
            *(header for header in without_content(own) if header[0] not in _OF_ONE_FILE),
        ]
        metrics.ANSWER.inc(pictures.size_bytes)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left_bytes = pictures.size_bytes
        for piece in pictures.pieces():
            left_bytes -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left_bytes > 0})
            await asyncio.sleep(0)  # other requests have their turn


async def _understood(form: Form, chain: Chain, size_bytes: int, *, strict: bool) -> Order:
    """Read a form, on a thread where that may take long."""
    if size_bytes < THREAD_FROM_BYTES:
        return read_order(form, chain, strict=strict)
    return await asyncio.to_thread(read_order, form, chain, strict=strict)


def _series(
    request: ImageRequest, chain: Chain, order: Order
) -> tuple[list[ImageRequest], tuple[str, ...]]:
    """Return what is to be run for all the pictures of an order, and all its warnings.

    Raises:
        InvalidParameterError: all would be the same, and the request is strict.
    """
    count, warnings = order.count, order.warnings
    if count > 1 and not draws(chain):
        reason = f"{chain.spec.name} draws no random numbers, and all pictures are the same"
        if request.strict:
            raise InvalidParameterError(f"n must be 1: {reason}, got {count}")
        count, warnings = 1, (*warnings, f"request; n: {reason}")
    parameters = with_seeds(chain, request.parameters, count)
    hooks = share_hooks(request.hooks, count)
    requests = [
        replace(request, parameters=own, hooks=wires)
        for own, wires in zip(parameters, hooks, strict=True)
    ]
    return requests, warnings
