"""A login of one's own: the callable that LKMONGO_WEB_AUTH names says, at each request, whose request it is."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lkmongo.errors import InvalidIdError, LkmongoError, SettingsError
from lkmongo.imports import import_string
from lkmongo.model import check_id
from lkmongo.web.handle import GUEST_PREFIX

logger = logging.getLogger(__name__)

Hook = Callable[[web.Request], Any]
"""Takes a request and returns the id of who is logged in, or None; plain or a coroutine function."""

PATIENCE = 5.0
"""Seconds that a login may take to answer."""


class LoginError(LkmongoError):
    """The login cannot be asked at the moment."""

    code = "login_failed"


class Login:
    """Asks the hook; without one nobody is logged in."""

    def __init__(self, hook: Hook | None = None) -> None:
        """Ask `hook`."""
        self._hook = hook

    @property
    def is_configured(self) -> bool:
        """Whether there is a hook."""
        return self._hook is not None

    async def user_id(self, request: web.Request) -> str | None:
        """The id of who is logged in, or None.

        Raises:
            LoginError: the hook failed, or answered with what cannot be an id. Nobody is a guest for that reason:
                who is logged in would talk to an agent that does not know them.
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
            logger.error("LKMONGO_WEB_AUTH returned %s that cannot be a user id", type(answer).__name__)  # noqa: TRY400
            raise LoginError from error
        if user_id.startswith(GUEST_PREFIX):
            logger.error("LKMONGO_WEB_AUTH returned an id that begins with %s: that is a guest's", GUEST_PREFIX)
            raise LoginError
        return user_id


def load_login(path: str | None) -> Login:
    """Import the callable that LKMONGO_WEB_AUTH names.

    Raises:
        SettingsError: it cannot be imported or called.
    """
    if path is None:
        return Login()
    found = import_string("LKMONGO_WEB_AUTH", path, "callable")
    if not callable(found):
        raise SettingsError(f"LKMONGO_WEB_AUTH names {path}, which cannot be called")
    return Login(found)
