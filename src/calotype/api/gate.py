"""Who may come in: tokens, rates and scopes, applied to requests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from calotype.api.auth import Authenticator, Caller, require_admin
from calotype.api.exchange import KEY, Exchange
from calotype.api.limits import Limiter, headers, spent

Endpoint = Callable[[Request, Caller], Response]
Command = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Tells callers, and counts what they ask for."""

    authenticator: Authenticator
    limiter: Limiter

    def identify(self, exchange: Exchange) -> Caller:
        """Tell who sent a request.

        Raises:
            UnauthorizedError: nobody who may.
        """
        sent = exchange.headers.get(b"authorization")
        return self.authenticator.authenticate(None if sent is None else sent.decode("latin-1"))

    async def admit(self, exchange: Exchange) -> Caller:
        """Tell who wants to run a model, and count it; the answer will tell what is left.

        Raises:
            UnauthorizedError: nobody who may.
            RateLimitedError: somebody who spent all.
        """
        caller = self.identify(exchange)
        rate = None if caller.token is None else caller.token.rate_per_minute
        if rate is None:
            return caller
        state = await self.limiter.spend(caller.name, rate)
        exchange.extra += headers(state)
        if not state.granted:
            raise spent(caller.name, state)
        return caller

    def guard(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Let only known callers reach an endpoint, and tell it who they are."""

        async def guarded(request: Request) -> Response:
            return endpoint(request, self.identify(request.scope[KEY]))

        return guarded

    def guard_waiting(self, command: Command) -> Callable[[Request], Awaitable[Response]]:
        """As ``guard``, for endpoints that wait for something."""

        async def guarded(request: Request) -> Response:
            return await command(request, self.identify(request.scope[KEY]))

        return guarded

    def guard_admin(self, command: Command, deed: str) -> Callable[[Request], Awaitable[Response]]:
        """Let only operators reach a command; it costs nothing of a rate.

        Args:
            command: told who the caller is.
            deed: what it does, e.g. ``load models``.
        """

        async def checked(request: Request, caller: Caller) -> Response:
            require_admin(caller, deed)
            return await command(request, caller)

        return self.guard_waiting(checked)
