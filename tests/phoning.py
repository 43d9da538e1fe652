"""Calls by telephone in tests: a real AgentSession, a real MongoDB, and a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.phone_caller import PhoneCaller
from lkmongo.model import UserScope, now
from lkmongo.phone_numbers import PhoneNumber, Withheld
from lkmongo.tenants import Tenants
from tests.fake_llm import Script, ScriptedLLM, calls
from tests.talk import Talk, calling, hang_up, talking

HOME = PhoneNumber("+4930123456")


@asynccontextmanager
async def phoning(
    store,
    number: PhoneNumber | Withheld = HOME,
    *,
    tenants: Tenants | None = None,
    session_id: str = "call-1",
    script: Script | None = None,
    model=None,
) -> AsyncIterator[Talk]:
    """A call from this number, greeting included, that is hung up at the end."""
    async with calling(store, UserScope.guest(), guest=True, session_id=session_id, tenants=tenants) as call:
        call.caller.phone = PhoneCaller(call, tenants or Tenants())
        call.caller.may_phone = True
        call.caller.phone.calls_from(number)
        async with talking(call, model or ScriptedLLM(script or calls()), Assistant()) as talk:
            yield talk
        await hang_up(talk)


async def linked(store, user_id: str, number: PhoneNumber = HOME, *, name: str | None = None, at=None) -> UserScope:
    """Somebody whose number it is."""
    scope = UserScope(tenant_id="default", user_id=user_id)
    if name:
        await store.users.set_field(scope, "name", name)
    await store.phones.link(scope, number, by="staff", at=at or now())
    return scope
