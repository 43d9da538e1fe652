"""Who sent a request: somebody who is logged in, or the guest that the browser's cookie or visitor token stands for.

LKMONGO_WEB_AUTH names a callable of your own that returns, for each request, the id of who is logged in.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from lkmongo.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidIdError,
    LkmongoError,
    NotReadyError,
    SettingsError,
)
from lkmongo.imports import import_string
from lkmongo.model import UserScope, check_id
from lkmongo.store.open import Store
from lkmongo.store.people.merge import merge
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import Visitor, Visitors
from lkmongo.ticket import VISITOR_PREFIX
from lkmongo.web.handle import MAX_AGE, CookieKeys, Handle, login_key

logger = logging.getLogger(__name__)

Hook = Callable[[web.Request], Any]
"""Takes a request and returns the id of who is logged in, or None; a plain or a coroutine function."""

PATIENCE = 5.0
"""Seconds for the login to answer."""


class LoginError(LkmongoError):
    """The login is not available at the moment."""

    code = "login_failed"


class Login:
    """Calls the hook; without one nobody is logged in."""

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook = hook

    @property
    def is_configured(self) -> bool:
        return self._hook is not None

    async def user_id(self, request: web.Request) -> str | None:
        """The id of who is logged in, or None.

        Raises:
            LoginError: the hook failed, or returned no valid id. The request is not treated as a guest's: somebody who
                is logged in would talk to an agent that does not know them.
        """
        if self._hook is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                if inspect.iscoroutinefunction(self._hook):
                    answer = await self._hook(request)
                else:
                    answer = await asyncio.to_thread(self._hook, request)
                    if inspect.isawaitable(answer):
                        answer = await answer
        except Exception as error:
            logger.exception("LKMONGO_WEB_AUTH failed")
            raise LoginError from error
        if answer is None:
            return None
        try:
            user_id = check_id("user", answer)
        except InvalidIdError as error:
            logger.error("LKMONGO_WEB_AUTH returned %s that is not a valid user id", type(answer).__name__)  # noqa: TRY400
            raise LoginError from error
        if user_id.startswith(VISITOR_PREFIX):
            logger.error(
                "LKMONGO_WEB_AUTH returned an id that begins with %s, which is reserved for guests", VISITOR_PREFIX
            )
            raise LoginError
        return user_id


def load_login(path: str | None) -> Login:
    """Import the callable that LKMONGO_WEB_AUTH names; raises SettingsError if that fails."""
    if path is None:
        return Login()
    found = import_string("LKMONGO_WEB_AUTH", path, "callable")
    if not callable(found):
        raise SettingsError(f"LKMONGO_WEB_AUTH names {path}, which is not callable")
    return Login(found)


COOKIE = "lkmongo"
SECURE_COOKIE = "__Host-lkmongo"
"""For https: browsers accept this prefix only from the host itself, not from another host of the same domain."""

HEADER = "X-Lkmongo-Visitor"
"""By this header a page that gets no cookie says who its visitor is: their visitor token, or "new" to get one."""

_LOOK_UP = 1.5
"""Seconds for looking up a guest."""
_MERGE = 3.0
"""Seconds that a response waits for a guest's merge into a login, which continues afterwards."""


@dataclass(slots=True)
class WebCaller:
    """Who it is, as which `visitor`, and what to do with the cookie: set it to the handle `give`, or `drop` it.

    Who came with a visitor token gets `give` as their next one. Somebody `passing` has a cookie or a token, but MongoDB
    does not say whether it is still valid: a guest of this call, who keeps it.
    """

    scope: UserScope
    logged_in: bool
    visitor: str | None = None
    give: Handle | None = None
    drop: bool = False
    passing: bool = False

    @property
    def bucket(self) -> str:
        """What their requests are limited by."""
        return str(self.visitor) if self.passing else "\n".join(self.scope.filter.values())


class Pages(Protocol):
    """What is asked of `Origins`."""

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser uses https."""

    def came(self, request: web.Request, *, known: bool) -> None:
        """Note whether a request of a page tells who its visitor is, or asks how to."""


class Callers:
    """Recognises who sends requests."""

    def __init__(
        self, store: Store, keys: CookieKeys, login: Login, origins: Pages, tenant_id: str, *, asks: bool = False
    ) -> None:
        """Use the collections of `store`; with `asks`, a browser is only stored once its caller agreed to be known."""
        self._db = store.db
        self._visitors = Visitors(store.db)
        self._keys = keys
        self._login = login
        self._origins = origins
        self._tenant = tenant_id
        self._asks = asks
        self._merges: dict[str, asyncio.Task[bool]] = {}

    async def recognise(self, request: web.Request, *, or_passing: bool = False) -> WebCaller | None:
        """Who sent the request; None for an unknown browser.

        Args:
            request: what was sent.
            or_passing: let whom MongoDB does not tell in time be a guest instead, since their cookie may have ended.

        Raises:
            LoginError: the login is not available.
            DatabaseError: MongoDB does not tell.
        """
        user_id = await self._login.user_id(request)
        shown = self._read(request)
        if user_id is not None:
            login = UserScope(tenant_id=self._tenant, user_id=user_id)
            drop = shown is not None and await self._joined(shown[0], login)
            return WebCaller(login, logged_in=True, visitor=login_key(login), drop=drop)
        if shown is None:
            return None
        self._origins.came(request, known=True)
        handle, renew = shown
        try:
            scope = await self._guest(handle)
        except DatabaseError as error:
            if not or_passing:
                raise
            _tell_away(error)
            visitor = handle.key(self._tenant)
            return WebCaller(UserScope.guest(self._tenant), logged_in=False, visitor=visitor, passing=True)
        if scope is None:
            return None
        visitor = handle.key(self._tenant)
        return WebCaller(scope, logged_in=False, visitor=visitor, give=handle.renewed() if renew else None)

    def welcome(self, request: web.Request) -> WebCaller:
        """A new guest, of whom nothing is stored before they come back or a session begins."""
        self._origins.came(request, known=HEADER in request.headers)
        handle = Handle.new()
        return WebCaller(handle.guest(self._tenant), logged_in=False, visitor=handle.key(self._tenant), give=handle)

    async def keep(self, request: web.Request, caller: WebCaller) -> None:
        """Store the browser of a guest who agreed to be known. Raises DatabaseError."""
        if not caller.logged_in and (shown := self._read(request)):
            await self._visitors.add(shown[0].key(self._tenant), caller.scope)

    def visitor(self, request: web.Request) -> str | None:
        """A key of the browser whose valid cookie or visitor token the request has, without asking the database."""
        shown = self._read(request)
        return shown and shown[0].key(self._tenant)

    async def leave(self, request: web.Request) -> None:
        """Invalidate the browser's cookie or visitor token and its copies, and the tokens made for it or for a login.

        The next request is a new guest's, or that of who logs in again.

        Raises:
            DatabaseError: MongoDB failed; the cookie is still valid.
            LoginError: the login is not available, but the cookie is invalid.
        """
        if shown := self._read(request):
            await self._visitors.end(shown[0].key(self._tenant), shown[0].guest(self._tenant))
        user_id = await self._login.user_id(request)
        if user_id is not None:
            login = UserScope(tenant_id=self._tenant, user_id=user_id)
            await self._visitors.end_login(login_key(login), login)

    def visitor_token(self, request: web.Request, caller: WebCaller) -> str | None:
        """What the page shall keep of its visitor from now on; None if it has not asked, or keeps that already."""
        return self._keys.write(caller.give) if caller.give and HEADER in request.headers else None

    def settle(self, request: web.Request, response: web.StreamResponse, caller: WebCaller) -> None:
        if HEADER in request.headers:
            return
        if caller.give:
            self._set_cookie(request, response, self._keys.write(caller.give), MAX_AGE)
        elif caller.drop:
            self.drop_cookie(request, response)

    def drop_cookie(self, request: web.Request, response: web.StreamResponse) -> None:
        if self._name(request) in request.cookies and HEADER not in request.headers:
            self._set_cookie(request, response, "", 0)

    async def close(self) -> None:
        """Wait for merges in progress."""
        await asyncio.gather(*self._merges.values(), return_exceptions=True)

    def _name(self, request: web.Request) -> str:
        return SECURE_COOKIE if self._origins.is_secure(request) else COOKIE

    def _read(self, request: web.Request) -> tuple[Handle, bool] | None:
        """The handle of the request's header if it has one, else of its cookie, and whether to renew it.

        A page sends the header on purpose, while the cookie comes by itself. And where there is a header the cookie is
        not even looked at: else a script could exchange it, which it cannot read, for a token that it can.
        """
        value = request.headers.get(HEADER)
        return self._keys.read(request.cookies.get(self._name(request), "") if value is None else value)

    def _set_cookie(self, request: web.Request, response: web.StreamResponse, value: str, max_age: int) -> None:
        name = self._name(request)
        response.set_cookie(
            name, value, max_age=max_age, path="/", httponly=True, samesite="Lax", secure=name == SECURE_COOKIE
        )

    async def _guest(self, handle: Handle) -> UserScope | None:
        """Whose browser it is; None if its cookie is no longer valid. Raises DatabaseError."""
        try:
            async with asyncio.timeout(_LOOK_UP):
                return await self._look_up(handle, handle.key(self._tenant))
        except TimeoutError as error:
            raise DatabaseUnavailableError(why=f"it did not answer in {_LOOK_UP:g} s") from error

    async def _look_up(self, handle: Handle, key: str) -> UserScope | None:
        guest = handle.guest(self._tenant)
        if visitor := await self._visitors.seen(key):
            return self._accepted(visitor, guest)
        if await Tombstones(self._db).get(guest):
            return None  # erased: a new guest
        if not self._asks:
            await self._visitors.add(key, guest)
        return guest

    def _accepted(self, visitor: Visitor, guest: UserScope) -> UserScope | None:
        """With a login configured, a cookie alone is never more than its own guest, whatever it was merged into."""
        if visitor.ended or (self._login.is_configured and visitor.scope != guest):
            return None
        return visitor.scope

    async def _joined(self, handle: Handle, login: UserScope) -> bool:
        """Merge the cookie's guest into the login; True once that is done and the cookie is invalid."""
        key = handle.key(self._tenant)
        task = self._merges.get(key)
        if task is None:
            task = self._merges[key] = asyncio.create_task(self._join(handle, key, login))
            task.add_done_callback(lambda _: self._merges.pop(key, None))
        done, _ = await asyncio.wait({task}, timeout=_MERGE)
        return bool(done) and task.result()

    async def _join(self, handle: Handle, key: str, login: UserScope) -> bool:
        guest = handle.guest(self._tenant)
        try:
            visitor = await self._visitors.get(key)
            # Otherwise it was merged by an operator, or ended, and has nothing of its own any more.
            if visitor is None or (visitor.scope == guest and not visitor.ended):
                await merge(self._db, guest, login)
            if visitor is None or not visitor.ended:
                await self._visitors.end(key, login)
        except LkmongoError as error:
            level = logging.INFO if isinstance(error, NotReadyError) else logging.WARNING  # they are in a session
            logger.log(level, "a guest who logged in is not merged yet: %s (%s)", error.message, error.why)
            return False
        except Exception:
            logger.exception("a guest who logged in could not be merged")
            return False
        return True


def _tell_away(error: Exception) -> None:
    what = f"{error.message} ({error.why})" if isinstance(error, LkmongoError) else "MongoDB takes too long to answer"
    logger.warning("a visitor is a new guest: %s", what)
