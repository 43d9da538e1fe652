"""The HTTP interface: LiveKit's standard token endpoint, the caller's own memories, logout, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from lkmongo.errors import ConsentError, DriftError, LkmongoError, NotReadyError, UsageError
from lkmongo.model import SessionRecord, UserScope, profile_words
from lkmongo.outbox.learned import decide
from lkmongo.store.open import Store
from lkmongo.store.people.editing import edit_line, why_line
from lkmongo.store.people.forget import forget_everything, forget_line
from lkmongo.store.people.offers import offers_of
from lkmongo.store.people.person import NOT_THERE, Line, about_lines, memory_lines
from lkmongo.store.sessions.own_calls import past_calls
from lkmongo.tenants import Limits
from lkmongo.tokens import SigningKey, TokenRequest, mint
from lkmongo.web.caller import Callers, WebCaller
from lkmongo.web.guard import in_time, json_body, problem, read_content, read_token_request, too_many
from lkmongo.web.limits import EDITS, PER_CALLER, Limit, NewVisitors
from lkmongo.web.proxies import Proxies

logger = logging.getLogger(__name__)

PAGE = 50
"""Memories in one answer."""
SUGGESTING = 20
"""Conversations whose suggestions are in an answer, and what a guest had instead."""
CALLS = 20
"""Past calls in one answer."""
_LINE = "/api/memories/{kind:memory|profile|commitment}/{name}"
_PING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    """The LiveKit server, its key pair, and the agent to dispatch."""

    server_url: str
    key: SigningKey
    agent_name: str


class Interface:
    """The handlers."""

    def __init__(
        self,
        store: Store,
        callers: Callers,
        livekit: LiveKitServer,
        proxies: Proxies,
        limits: Limits | None = None,
        *,
        asks: bool = False,
        on_token: Callable[[TokenRequest], None] = lambda _: None,
    ) -> None:
        """Serve callers who may have so many memories; `on_token` is told of each token.

        With `asks`, nothing is stored of who has not agreed to it.
        """
        self._store = store
        self._limits = limits or Limits()
        self._asks = asks
        self._on_token = on_token
        self._callers = callers
        self._livekit = livekit
        self._proxies = proxies
        self._per_caller = Limit(PER_CALLER)
        self._edits = Limit(EDITS)
        self._new_visitors = NewVisitors()
        self._away: str | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        yield web.post("/api/token", self.token)
        yield web.get("/api/memories", self.memories, allow_head=False)
        yield web.delete("/api/memories", self.forget_everything)
        yield web.put(_LINE, self.edit)
        yield web.delete(_LINE, self.forget)
        yield web.get(f"{_LINE}/why", self.why, allow_head=False)
        yield web.get("/api/sessions", self.sessions, allow_head=False)
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
            caller = self._callers.welcome(request)
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
        self._on_token(wanted)
        if kept := self._callers.visitor_token(request, caller):
            answer["visitor_token"] = kept
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
        found["lines"] = [_line(line) for line in found["lines"]]
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
                "at": _iso(proposal.said_at),
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
                "at": _iso(offer.said_at),
                "of_guest": True,
                "instead_of": kept.get((offer.kind, offer.label)),
            }
            for offer in offered
        ]
        return {"lines": about + page, "count": len(about) + count, "suggestions": suggestions}

    async def edit(self, request: web.Request) -> web.Response:
        """Let a line say something else, or again what it said before it was deleted: `{"content": "teal"}`."""
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        content = read_content(body)
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "nothing is kept of this browser: begin a conversation first")
        if seconds := self._edits.wait(caller.bucket):
            return too_many(seconds)
        kind, name = request.match_info["kind"], request.match_info["name"]
        try:
            async with in_time():
                line = await edit_line(
                    self._store, caller.scope, kind, name, content, limits=self._limits, asks=self._asks
                )
        except ConsentError as error:
            return problem(409, error.code, "nothing more is kept of you, as you have not agreed to it")
        except DriftError as error:
            return problem(409, error.code, f"{error.message}: {error.why}")
        return self._settled(request, web.json_response(_line(line)), caller)

    async def why(self, request: web.Request) -> web.Response:
        """Where a line is from: what was said and answered, in which call, or who wrote it."""
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", NOT_THERE)
        async with in_time():
            found = await why_line(self._store, caller.scope, request.match_info["kind"], request.match_info["name"])
        session = found.exchange.session
        answer = {
            "by": found.by,
            "at": _iso(found.at),
            "said": found.exchange.said,
            "answer": found.exchange.answer,
            "session": _call(session) if session else None,
        }
        return self._settled(request, web.json_response(answer), caller)

    async def sessions(self, request: web.Request) -> web.Response:
        """A page of the caller's past calls, newest first; see `memories` for `?after=`."""
        caller = await self._callers.recognise(request)
        if caller is None:
            return web.json_response({"sessions": [], "more": None})
        async with in_time():
            try:
                page, more = await past_calls(
                    self._store.db, caller.scope, limit=CALLS, after=request.query.get("after", "")
                )
            except UsageError as error:
                return problem(400, "bad_place", error.message)
        told = [_call(each) | {"summary": each.summary.text if each.summary else ""} for each in page]
        return self._settled(request, web.json_response({"sessions": told, "more": more}), caller)

    async def forget(self, request: web.Request) -> web.Response:
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", NOT_THERE)
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
        """Invalidate the browser's cookie or visitor token; a configured login manages its own sessions."""
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


def _line(line: Line) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "name": line.name,
        "label": line.label,
        "content": line.content,
        "at": _iso(line.at),
        "editable": line.editable,
    }


def _call(record: SessionRecord) -> dict[str, Any]:
    """A call of the caller's own, without what is technical."""
    return {
        "id": record.session_id,
        "started_at": _iso(record.started_at),
        "ended_at": _iso(record.ended_at),
        "channel": "phone" if record.trust else "online",
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
