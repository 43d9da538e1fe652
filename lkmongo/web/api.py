"""The HTTP interface: LiveKit's standard token endpoint, the caller's own memories, logout, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from lkmongo.errors import DriftError, LkmongoError, NotReadyError, UsageError
from lkmongo.model import UserScope, profile_words
from lkmongo.outbox.learned import decide
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget_everything, forget_line
from lkmongo.store.people.offers import offers_of
from lkmongo.store.people.person import Line, about_lines, memory_lines
from lkmongo.tokens import SigningKey, TokenRequest, mint
from lkmongo.web.caller import Callers, WebCaller
from lkmongo.web.guard import problem, read_token_request, too_many
from lkmongo.web.limits import PER_CALLER, Limit, NewVisitors
from lkmongo.web.proxies import Proxies
from lkmongo.web.requests import in_time, json_body

logger = logging.getLogger(__name__)

PAGE = 50
"""Memories in one answer."""
SUGGESTING = 20
"""Conversations whose suggestions are in an answer, and what a guest had instead."""
_PING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    """The LiveKit server, its key pair, and the agent to dispatch."""

    server_url: str
    key: SigningKey
    agent_name: str


class Interface:
    """The handlers."""

    def __init__(self, store: Store, callers: Callers, livekit: LiveKitServer, proxies: Proxies) -> None:
        self._store = store
        self._callers = callers
        self._livekit = livekit
        self._proxies = proxies
        self._per_caller = Limit(PER_CALLER)
        self._new_visitors = NewVisitors()
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
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        name = read_token_request(body, self._livekit.agent_name)
        caller = await self._callers.recognise(request, or_passing=True)
        if caller is None:
            if seconds := self._new_visitors.wait(self._proxies.client(request)):
                return too_many(seconds)
            caller = await self._callers.welcome()
        elif seconds := self._per_caller.wait(caller.bucket):
            return too_many(seconds)
        who = caller.scope.tenant if caller.passing else caller.scope
        wanted = TokenRequest(
            who=who,
            name=name,
            agent_name=self._livekit.agent_name,
            sealed=not caller.passing,
            visitor=caller.visitor,
        )
        answer = {"server_url": self._livekit.server_url, "participant_token": mint(self._livekit.key, wanted).text}
        return self._settled(request, web.json_response(answer, status=201), caller)

    async def memories(self, request: web.Request) -> web.Response:
        """A page of what is remembered of the caller, newest first; nothing for an unknown browser.

        With `?after=` and what came as `more` it is the next page.
        """
        after = request.query.get("after", "")
        caller = await self._callers.recognise(request)
        if caller is None:
            nothing = {"logged_in": False, "known": False, "lines": [], "suggestions": [], "count": 0, "more": None}
            return web.json_response(nothing)
        async with in_time():
            try:
                page, more = await memory_lines(self._store, caller.scope, limit=PAGE, after=after)
            except UsageError as error:
                return problem(400, "bad_place", error.message)
            found: dict[str, Any] = {"lines": page, "more": more}
            if not after:
                found |= await self._beside(caller.scope, page)
        found["lines"] = [
            {
                "kind": line.kind,
                "name": line.name,
                "label": line.label,
                "content": line.content,
                "at": line.at.isoformat() if line.at else None,
            }
            for line in found["lines"]
        ]
        answer = {"logged_in": caller.logged_in, "known": True, "suggestions": []} | found
        return self._settled(request, web.json_response(answer), caller)

    async def _beside(self, scope: UserScope, page: list[Line]) -> dict[str, Any]:
        """What comes with the first page: the lines before the memories, how many there are, and what is suggested."""
        about, count, waiting, offered = await asyncio.gather(
            about_lines(self._store, scope),
            self._store.memories.count(scope),
            self._store.learning.suggestions(scope, sessions=SUGGESTING),
            offers_of(self._store.db, scope, limit=SUGGESTING),
        )
        suggestions: list[dict[str, Any]] = [
            {
                "id": proposal.id,
                "label": profile_words(proposal.label).capitalize(),
                "content": proposal.content,
                "ended": proposal.kind == "ended",
                "at": proposal.said_at.isoformat(),
            }
            for _, proposal in waiting
        ]
        kept = {(line.kind, line.name): line.content for line in [*about, *page]}
        others = [each.label for each in offered if each.kind == "memory" and ("memory", each.label) not in kept]
        for slot in await self._store.memories.slots(scope, labels=others) if others else ():
            kept["memory", slot.memory_type] = slot.content
        suggestions += [
            {
                "id": offer.id,
                "label": profile_words(offer.label).capitalize(),
                "content": offer.content,
                "ended": False,
                "at": offer.said_at.isoformat() if offer.said_at else None,
                "of_guest": True,
                "instead_of": kept.get((offer.kind, offer.label)),
            }
            for offer in offered
        ]
        return {"lines": about + page, "count": len(about) + count, "suggestions": suggestions}

    async def forget(self, request: web.Request) -> web.Response:
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "that is not remembered")
        async with in_time():
            await forget_line(self._store, caller.scope, request.match_info["kind"], request.match_info["name"])
        return self._settled(request, web.Response(status=204), caller)

    async def forget_everything(self, request: web.Request) -> web.Response:
        caller = await self._callers.recognise(request)
        if caller is None:
            return web.json_response({"forgotten": 0})
        async with in_time():
            forgotten = await forget_everything(self._store, caller.scope)
        return self._settled(request, web.json_response({"forgotten": forgotten}), caller)

    async def decide(self, request: web.Request) -> web.Response:
        """Accept or decline what a conversation suggests to remember of the caller."""
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "that is not suggested")
        name, accepts = request.match_info["id"], request.match_info["answer"] == "accept"
        try:
            async with in_time():
                await decide(self._store, caller.scope, name, "accepted" if accepts else "declined")
        except DriftError as error:
            return problem(409, error.code, f"{error.message}: {error.why}")
        except NotReadyError as error:
            return problem(503, error.code, "try again in some seconds", Retry_After="5")
        return self._settled(request, web.Response(status=204), caller)

    async def logout(self, request: web.Request) -> web.Response:
        """Invalidate the browser's cookie; a configured login manages its own sessions."""
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        async with in_time():
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
