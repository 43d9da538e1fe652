"""What callers may ask for themselves: a file of what is kept, its erasure, who looked at it, and their consent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from lkmongo.consent import QUESTION, WITHDRAWN, WORDING
from lkmongo.errors import LkmongoError, NotFoundError, NotReadyError
from lkmongo.model import UserScope
from lkmongo.outbox.erasing import Elsewhere
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people.audit import Audit, AuditFilter
from lkmongo.store.people.consent import agree, refuse
from lkmongo.store.people.erase import Erasure, erase_known
from lkmongo.store.people.person import export, is_known
from lkmongo.tenants import TenantPolicy
from lkmongo.web.caller import Callers, WebCaller
from lkmongo.web.guard import in_time, json_body, problem, response_headers, too_many
from lkmongo.web.limits import Limit

logger = logging.getLogger(__name__)

PER_CALLER = 10
"""Files, erasures and answers per minute for one person."""
BY = "themselves, on the talk page"
"""Who erased, on the receipt."""
_ERASE_SECONDS = 25.0
"""Seconds that a response waits for an erasure, which continues afterwards."""
_SHOWN = 100
"""Looks of staff that are shown, newest first."""


class Rights:
    """The handlers."""

    def __init__(self, store: Store, callers: Callers, policy: TenantPolicy, settings: Settings | None = None) -> None:
        """Serve the tenant of this policy; the settings say where the journals of this machine are."""
        self._store = store
        self._settings = settings
        self._callers = callers
        self._asks = policy.consent == "ask"
        self._shows_access = policy.show_staff_access
        self._limit = Limit(PER_CALLER)
        self._erasures: set[asyncio.Task[Erasure]] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        yield web.get("/api/rights", self.show, allow_head=False)
        yield web.post("/api/consent", self.answer)
        yield web.get("/api/export", self.export, allow_head=False)
        yield web.post("/api/erase", self.erase)

    async def show(self, request: web.Request) -> web.Response:
        """Whether the caller is asked for their consent, what they answered, and which staff looked at their data."""
        caller = await self._callers.recognise(request)
        answer: dict[str, Any] = {
            "asks": self._asks,
            "question": QUESTION,
            "withdrawn": WITHDRAWN,
            "wording": WORDING,
            "consent": None,
            "access": [] if self._shows_access else None,
        }
        if caller is None:
            return web.json_response(answer)
        async with in_time():
            consent = await self._store.users.consent(caller.scope)
            if self._shows_access:
                entries = await Audit(self._store.db).newest(AuditFilter(scope=caller.scope), limit=_SHOWN)
                answer["access"] = [{"at": each.at.isoformat(), "action": each.action} for each in entries]
        if consent:
            answer["consent"] = consent.fields | {"at": consent.at.isoformat()}
        return self._settled(request, web.json_response(answer), caller)

    async def answer(self, request: web.Request) -> web.Response:
        """Note that the caller agrees, or does not, or no longer: `{"agree": true}`.

        Of who declines before anything was kept nothing is noted either.
        """
        asked = await self._asked(request)
        if isinstance(asked, web.Response):
            return asked
        caller, given = asked
        if not isinstance(agrees := given.get("agree"), bool):
            return problem(400, "invalid", 'the body must be {"agree": true} or {"agree": false}')
        async with in_time():
            consent = await (agree if agrees else refuse)(self._store, caller.scope, "page")
            if agrees:
                await self._callers.keep(request, caller)
        answer = {"consent": consent.fields | {"at": consent.at.isoformat()} if consent else None}
        return self._settled(request, web.json_response(answer), caller)

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Send everything that is kept of the caller as a JSON file, as it is read."""
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "nothing is kept of this browser")
        if seconds := self._wait(caller):
            return too_many(seconds)
        pieces = export(self._store.db, caller.scope)
        async with in_time():
            if not await is_known(self._store.db, caller.scope):
                return problem(404, "not_found", "nothing is kept of you")
            first = await anext(pieces)
        response = web.StreamResponse(headers={"Content-Disposition": 'attachment; filename="what-is-kept-of-me.json"'})
        response.content_type, response.charset = "application/json", "utf-8"
        response.headers.update(response_headers.get())
        self._callers.settle(request, response, caller)
        await response.prepare(request)
        await response.write(first.encode())
        try:
            async for piece in pieces:
                await response.write(piece.encode())
            await response.write_eof()
        except LkmongoError as error:
            logger.warning("a file of what is kept broke off: %s (%s)", error.message, error.why)
            if request.transport:
                request.transport.abort()  # so that nobody takes a part for the whole
        return response

    async def erase(self, request: web.Request) -> web.Response:
        """Say what would be erased; with `{"confirm": "erase"}`, erase everything of the caller and show the receipt.

        The cookie ends, and so do their conversations; orders stay, as business records.
        """
        asked = await self._asked(request)
        if isinstance(asked, web.Response):
            return asked
        caller, given = asked
        if given.get("confirm") not in {None, "erase"}:
            return problem(400, "invalid", 'the body must be {} or {"confirm": "erase"}')
        try:
            if given.get("confirm") is None:
                async with in_time():
                    return web.json_response(_told(await self._erased(caller.scope, dry_run=True)))
            async with in_time():
                await self._callers.leave(request)
            return await self._erase(request, caller.scope)
        except NotFoundError:
            return problem(404, "not_found", "nothing is kept of you")

    async def _erase(self, request: web.Request, scope: UserScope) -> web.Response:
        task = asyncio.create_task(self._erased(scope))
        self._erasures.add(task)
        task.add_done_callback(self._finished)
        done, _ = await asyncio.wait({task}, timeout=_ERASE_SECONDS)
        if not done:
            response = web.json_response({"receipt": None}, status=202)
        else:
            try:
                response = web.json_response(_told(task.result()))
            except NotReadyError:
                response = problem(503, "not_ready", "something of yours is still being written: ask us to complete it")
        self._callers.drop_cookie(request, response)
        return response

    async def _erased(self, scope: UserScope, *, dry_run: bool = False) -> Erasure:
        db = self._store.db
        elsewhere = Elsewhere(self._settings, db, scope) if self._settings else None
        return await erase_known(db, scope, by=BY, dry_run=dry_run, elsewhere=elsewhere)

    def _finished(self, task: asyncio.Task[Erasure]) -> None:
        self._erasures.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), LkmongoError):
            logger.warning("an erasure that a caller asked for is not complete: %s (%s)", error.message, error.why)

    async def close(self) -> None:
        """Wait for erasures in progress."""
        await asyncio.gather(*self._erasures, return_exceptions=True)

    async def _asked(self, request: web.Request) -> tuple[WebCaller, dict[str, Any]] | web.Response:
        """Who asks, and the request's JSON object; or the response that rejects it."""
        body = await json_body(request)
        if isinstance(body, web.Response):
            return body
        try:
            given = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            return problem(400, "invalid", "the body must be a JSON object")
        caller = await self._callers.recognise(request)
        if caller is None:
            return problem(404, "not_found", "nothing is kept of this browser: begin a conversation first")
        if seconds := self._wait(caller):
            return too_many(seconds)
        return caller, given

    def _wait(self, caller: WebCaller) -> float:
        return self._limit.wait("\n".join(caller.scope.filter.values()))

    def _settled(self, request: web.Request, response: web.Response, caller: WebCaller) -> web.Response:
        self._callers.settle(request, response, caller)
        return response


def _told(erasure: Erasure) -> dict[str, Any]:
    receipt = erasure.receipt if erasure.erased else None
    return {
        "receipt": str(receipt.erase_id) if receipt else None,
        "erased_at": receipt.erased_at.isoformat() if receipt else None,
        "erased": dict(receipt.counts) if receipt else dict(erasure.found),
        "orders_kept": receipt.orders_kept if receipt else erasure.orders_kept,
        "kept": dict(receipt.kept if receipt else erasure.kept),
    }
