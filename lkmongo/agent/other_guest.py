"""A session becomes a guest's, or another guest's: its caller turns out to be somebody else, or of another tenant."""

from __future__ import annotations

from lkmongo.agent.caller_session import CallerSession
from lkmongo.model import UserScope
from lkmongo.outbox.operations import Operation
from lkmongo.store.people.take_back import Known


async def step_back(session: CallerSession, known: Known, *more: Operation) -> None:
    """Turn the person into a guest: they are somebody else. Nothing of this session stays with the person.

    Args:
        session: the person's.
        known: what was known of the person before this session.
        more: is to be stored as well.
    """
    caller, recorder = session.caller, session.recorder
    async with session.identifying:
        if session.ending or caller.guest or recorder.erased:
            return
        guest = UserScope.guest(caller.scope.tenant_id)
        caller.consent.before_step_back()
        await recorder.take_back(guest, known)
        caller.step_back(guest)
        for operation in more:
            caller.outbox.add(operation)
        recorder.start()


async def move_guest(session: CallerSession, tenant_id: str) -> None:
    """Let the guest be one of another tenant, whose number they have dialled."""
    caller, recorder = session.caller, session.recorder
    async with session.identifying:
        if session.ending or not caller.guest or recorder.erased or tenant_id == caller.scope.tenant_id:
            return
        guest = UserScope.guest(tenant_id)
        caller.consent.before_moved(guest)
        await recorder.change_scope(guest)
        caller.scope = guest
        if session.is_attached:
            recorder.start()
        await session.on_moved()
