"""The HTTP interface: LiveKit's standard token endpoint, the caller's own memories, logout, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from lkmongo.errors import DatabaseUnavailableError, DriftError, LkmongoError, NotReadyError
from lkmongo.model import profile_words
from lkmongo.outbox.learned import decide
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget_everything, forget_line
from lkmongo.store.people.person import lines
from lkmongo.tokens import SigningKey, TokenRequest, mint
from lkmongo.web.caller import Callers, WebCaller
from lkmongo.web.guard import Limit, address_key, problem, read_token_request, too_many

logger = logging.getLogger(__name__)

MAX_BODY = 16 * 1024
"""Bytes of a request's body."""
PER_CALLER = 20
"""Tokens per minute for one person."""
NEW_GUESTS = 60
"""Tokens per minute for unknown browsers at one address."""
_FORMS = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
"""Types that a page of another site can send without a CORS preflight."""
_BODY_SECONDS = 10.0
_MEMORY_SECONDS = 5.0
_PING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    """The LiveKit server, its key pair, and the agent to dispatch."""

    server_url: str
    key: SigningKey
    agent_name: str


class Interface:
    """The handlers."""

    def __init__(self, store: Store, callers: Callers, livekit: LiveKitServer) -> None:
        self._store = store
        self._callers = callers
        self._livekit = livekit
        self._per_caller = Limit(PER_CALLER)
        self._new_guests = Limit(NEW_GUESTS)
        self._away: str | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        yield web.post("/api/token", self.token)
        yield web.get("/api/memories", self.memories, allow_head=False)
        yield web.delete("/api/memories", self.forget_everything)
        yield web.delete("/api/memories/{kind:memory|profile|commitment}/{name}", self.forget)
        yield web.post("/api/suggestions/{id}/{answer:accept|decline}", self.decide)
        yield web.post("/api/logout", self.logout)
        yield web.get("/health", self.health)

    async def token(self, request: web.Request) -> web.Response:
        """Mint a token for a room of the caller's own; the sealed dispatch metadata tells the agent who they are."""
        body = await _json_body(request)
        if isinstance(body, web.Response):
            return body
        name = read_token_request(body, self._livekit.agent_name)
        caller = await self._callers.recognise(request)
        if caller is None:
            if seconds := self._new_guests.wait(address_key(request.remote)):
                return too_many(seconds)
            caller = await self._callers.welcome(request)
        elif seconds := self._per_caller.wait("\n".join(caller.scope.filter.values())):
            return too_many(seconds)
        wanted = TokenRequest(who=caller.scope, name=name, agent_name=self._livekit.agent_name, sealed=True)
        answer = {"server_url": self._livekit.server_url, "participant_token": mint(self._livekit.key, wanted).text}
        return self._settled(request, web.json_response(answer, status=201), caller)

    async def memories(self, request: web.Request) -> web.Response:
        """What is remembered of the caller; nothing for an unknown browser."""
        caller = await self._callers.recognise(request)
        if caller is None:
            return web.json_response({"logged_in": False, "known": False, "lines": [], "suggestions": []})
        async with _in_time():
            found, waiting = await asyncio.gather(
                lines(self._store, caller.scope), self._store.learning.suggestions(caller.scope)
            )
        shown = [
            {
                "kind": line.kind,
                "name": line.name,
                "label": line.label,
                "content": line.content,
                "at": line.at.isoformat() if line.at else None,
            }
            for line in found
        ]
        suggestions = [
            {
                "id": proposal.id,
                "label": profile_words(proposal.label).capitalize(),
                "content": proposal.content,
                "ended": proposal.kind == "ended",
                "at": proposal.said_at.isoformat(),
            }
            for _, proposal in waiting
        ]
        answer = {"logged_in": caller.logged_in, "known": True, "lines": shown, "suggestions": suggestions}
        return self._settled(request, web.json_response(answer), caller)

    async def forget(self, request: web.Request) -> web.Response:
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "that is not remembered")
        async with _in_time():
            await forget_line(self._store, caller.scope, request.match_info["kind"], request.match_info["name"])
        return self._settled(request, web.Response(status=204), caller)

    async def forget_everything(self, request: web.Request) -> web.Response:
        caller = await self._callers.recognise(request)
        if caller is None:
            return web.json_response({"forgotten": 0})
        async with _in_time():
            forgotten = await forget_everything(self._store, caller.scope)
        return self._settled(request, web.json_response({"forgotten": forgotten}), caller)

    async def decide(self, request: web.Request) -> web.Response:
        """Accept or decline what a conversation suggests to remember of the caller."""
        body = await _json_body(request)
        if isinstance(body, web.Response):
            return body
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "that is not suggested")
        name, accepts = request.match_info["id"], request.match_info["answer"] == "accept"
        try:
            async with _in_time():
                await decide(self._store, caller.scope, name, "accepted" if accepts else "declined")
        except DriftError as error:
            return problem(409, error.code, f"{error.message}: {error.why}")
        except NotReadyError as error:
            return problem(503, error.code, "try again in some seconds", Retry_After="5")
        return self._settled(request, web.Response(status=204), caller)

    async def logout(self, request: web.Request) -> web.Response:
        """Invalidate the browser's cookie; a configured login manages its own sessions."""
        body = await _json_body(request)
        if isinstance(body, web.Response):
            return body
        async with _in_time():
            await self._callers.leave(request)
        response = web.Response(status=204)
        self._callers.drop_cookie(request, response)
        return response

    async def health(self, _: web.Request) -> web.Response:
        """Whether MongoDB answers; the server is healthy without it, since it still gives tokens.

        The reason goes to the log only, and once per outage, since probes ask all the time.
        """
        away: str | None = None
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await self._store.ping()
        except LkmongoError as error:
            away = f"{error.message} ({error.why})"
        except TimeoutError:
            away = f"MongoDB did not answer in {_PING_SECONDS:g} s"
        if away and away != self._away:
            logger.warning("the memory is unavailable: %s", away)
        self._away = away
        return web.json_response({"status": "ok", "mongodb": "away" if away else "ok"})

    def _settled(self, request: web.Request, response: web.Response, caller: WebCaller) -> web.Response:
        self._callers.settle(request, response, caller)
        return response


async def _json_body(request: web.Request) -> bytes | web.Response:
    """The body, or the response that rejects it."""
    if (request.content_length or 0) > MAX_BODY:
        return problem(413, "too_large", f"the body may have at most {MAX_BODY:,} bytes", Connection="close")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        return problem(408, "too_slow", "the body did not arrive in time", Connection="close")
    except web.HTTPRequestEntityTooLarge:
        return problem(413, "too_large", f"the body may have at most {MAX_BODY:,} bytes", Connection="close")
    # Some clients send a content type without a body.
    if request.content_type != "application/json" and (body or request.content_type in _FORMS):
        return problem(415, "not_json", "the body must be application/json")
    return body


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Bound a wait for MongoDB; raises DatabaseUnavailableError."""
    try:
        async with asyncio.timeout(_MEMORY_SECONDS):
            yield
    except TimeoutError as error:
        raise DatabaseUnavailableError(why=f"it did not answer in {_MEMORY_SECONDS:g} s") from error
