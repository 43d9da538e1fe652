"""What LiveKit knows of telephones: its trunks, its dispatch rules, and which rule a call comes under.

A trunk takes the calls that come in for its numbers; a dispatch rule says which room they go to, and who is sent there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkmongo.errors import LkmongoError, NotSupportedError
from lkmongo.livekit_api import PATIENCE, livekit_client
from lkmongo.phone_numbers import masked

if TYPE_CHECKING:
    from livekit.api import SIPDispatchRuleInfo, SIPInboundTrunkInfo, SIPOutboundTrunkInfo

    from lkmongo.settings import LiveKitCredentials

_KINDS = ("dispatch_rule_direct", "dispatch_rule_individual", "dispatch_rule_callee")
"""From the one that LiveKit prefers."""


def plain_number(text: str) -> str:
    """A trunk's number as LiveKit compares it: without what makes it readable, and with its plus."""
    return "+" + re.sub(r"[ ()+-]", "", text) if re.fullmatch(r"\+?[\d\- ()]+", text) else text


@dataclass(frozen=True)
class Telephony:
    """The trunks and the rules of a LiveKit project."""

    inbound: Sequence[SIPInboundTrunkInfo] = ()
    outbound: Sequence[SIPOutboundTrunkInfo] = ()
    rules: Sequence[SIPDispatchRuleInfo] = ()

    def trunk_of(self, number: str) -> SIPInboundTrunkInfo | None:
        """The trunk that takes the calls for a number; one without numbers takes those of no other."""
        wanted = plain_number(number)
        named = [each for each in self.inbound if wanted in map(plain_number, each.numbers)]
        # One that takes the calls of some callers alone is not there for the others.
        return next(iter(sorted(named, key=_for_some) + [each for each in self.inbound if not each.numbers]), None)

    def rule_of(self, trunk_id: str, number: str) -> SIPDispatchRuleInfo | None:
        """The rule under which the calls for a number come that a trunk takes, as LiveKit chooses it."""
        wanted = plain_number(number)
        fit = [each for each in self.rules if not each.numbers or wanted in map(plain_number, each.numbers)]
        of_all_callers = [each for each in fit if not each.inbound_numbers]
        own = [each for each in of_all_callers if trunk_id in each.trunk_ids]
        return min(own or [each for each in of_all_callers if not each.trunk_ids], key=_rank, default=None)

    def rules_that_send(self, agent_name: str) -> list[SIPDispatchRuleInfo]:
        """The rules that send this agent."""
        return [each for each in self.rules if sends(each, agent_name)]


def _for_some(trunk: SIPInboundTrunkInfo) -> bool:
    return bool(trunk.allowed_numbers)


def _rank(rule: SIPDispatchRuleInfo) -> tuple[bool, bool, int]:
    kind = rule.rule.WhichOneof("rule") or _KINDS[-1]
    return (not rule.numbers, not getattr(rule.rule, kind).pin, _KINDS.index(kind))


def sends(rule: SIPDispatchRuleInfo, agent_name: str) -> bool:
    """Whether a rule sends this agent."""
    return agent_name in {each.agent_name for each in rule.room_config.agents}


def is_open(trunk: SIPInboundTrunkInfo) -> bool:
    """Whether anybody at all may hand a call to a trunk, with any number as that of the caller."""
    return not (trunk.allowed_addresses or (trunk.auth_username and trunk.auth_password))


async def read_telephony(credentials: LiveKitCredentials) -> Telephony:
    """Ask LiveKit for its trunks and rules.

    Raises:
        NotSupportedError: the server has no telephony.
        UnreachableError, AuthenticationError: as `call_livekit` raises them.
    """
    from livekit import api

    async with livekit_client(credentials) as client, asyncio.timeout(PATIENCE):
        with telephony_errors():
            inbound = await client.sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())
            outbound = await client.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())
            rules = await client.sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())
    return Telephony(
        sorted(inbound.items, key=lambda each: each.sip_trunk_id),
        sorted(outbound.items, key=lambda each: each.sip_trunk_id),
        sorted(rules.items, key=lambda each: each.sip_dispatch_rule_id),
    )


@contextmanager
def telephony_errors() -> Iterator[None]:
    """Translate what LiveKit says of trunks and rules into our errors, without numbers; refused keys are left alone.

    Raises:
        NotSupportedError: the server has no telephony.
        LkmongoError: it refuses what was asked for.
    """
    from livekit import api

    try:
        yield
    except api.ServerError as error:
        if error.status in {401, 403}:
            raise
        why = masked(error.message) or f"HTTP status {error.status}"
        if error.code in {api.ServerErrorCode.INVALID_ARGUMENT, api.ServerErrorCode.NOT_FOUND}:
            raise LkmongoError(
                "LiveKit refuses the trunk or the rule", why=why, hint="what is there may have changed: run it again"
            ) from error
        raise NotSupportedError(
            "this LiveKit server has no telephony",
            why=why,
            hint="a server of your own needs Redis and livekit-sip; see docs/phone.md",
        ) from error
