"""Whether telephone calls reach the agent: the numbers, trunks and dispatch rules of LiveKit, and what callers need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lkmongo.doctor.check import Finding, Status, fail, ok, skip, warn
from lkmongo.errors import MissingExtraError, NotSupportedError
from lkmongo.imports import extra
from lkmongo.phone_numbers import masked
from lkmongo.telephony import Telephony, is_open, read_telephony, sends

if TYPE_CHECKING:
    from livekit.api import SIPDispatchRuleInfo, SIPInboundTrunkInfo

    from lkmongo.settings import Settings

_SETUP = "lkmongo phone setup --apply"


async def phone(settings: Settings) -> Finding:
    """Whether calls for the numbers of the tenants, and those that a rule sends to the agent, find it and are known.

    Raises:
        SettingsError: the file of LKMONGO_TENANTS is invalid.
        MissingExtraError: it has telephone numbers, and the extra `phone` is not installed.
        NotSupportedError: there are numbers, and LiveKit has no telephony.
        UnreachableError, AuthenticationError: as `call_livekit` raises them.
    """
    numbers = settings.tenant_policies().numbers
    trunk_id: str | None = settings.sip_trunk
    credentials = settings.livekit
    if credentials is None:
        return skip("LIVEKIT_URL is not set: nobody can call")
    try:
        there = await read_telephony(credentials)
    except NotSupportedError as error:
        if numbers or trunk_id:
            raise
        return skip(f"{error.message}, and no tenant has a number")
    sending = there.rules_that_send(settings.agent_name)
    if not (numbers or sending or trunk_id):
        return skip(f"no tenant has a telephone number, and no dispatch rule sends {settings.agent_name}")
    found = [
        *_reach(numbers, there, settings.agent_name),
        *_rules(sending),
        *_trunks(numbers, sending, there),
        *_outbound(trunk_id, there),
        *(_known(settings) if numbers or sending else ()),
    ]
    if not found:
        return ok(
            f"calls reach {settings.agent_name}",
            *[f"{masked(number)} is the number of tenant {tenant}" for number, tenant in numbers.items()],
        )
    worst = next((each for each in found if each.status is Status.FAIL), found[0])
    others = [f"{each.detail}; try: {each.hint}" for each in found if each is not worst]
    return Finding(worst.status, worst.detail, worst.hint, tuple(others), worst.exit_code)


def _reach(numbers: dict[str, str], there: Telephony, agent_name: str) -> Iterator[Finding]:
    """Whether each number leads to the agent."""
    lost: list[str] = []
    for number, tenant in numbers.items():
        named = f"{masked(number)} ({tenant})"
        if (trunk := there.trunk_of(number)) is None:
            lost.append(named)
        elif (rule := there.rule_of(trunk.sip_trunk_id, number)) is None:
            yield fail(
                f"no dispatch rule says where the calls for {named} go, on the trunk {trunk.sip_trunk_id}",
                f"lkmongo phone setup --trunk {trunk.sip_trunk_id} --apply, or {_SETUP} if it made the trunk",
            )
        elif not sends(rule, agent_name):
            agents = " and ".join(each.agent_name or "one without a name" for each in rule.room_config.agents)
            yield fail(
                f"the rule {_named(rule)} for {named} sends {agents or 'no agent'}, not {agent_name}",
                f"{_SETUP}, or set LKMONGO_AGENT_NAME to what the rule sends",
            )
    if lost:
        yield fail(f"no inbound trunk takes the calls for {', '.join(lost)}", _SETUP)


def _rules(sending: list[SIPDispatchRuleInfo]) -> Iterator[Finding]:
    """What the rules that send the agent keep from it, or tell others."""
    for rule in sending:
        if rule.hide_phone_number:
            yield warn(
                f"the rule {_named(rule)} hides the numbers: no caller is known, and each is of the default tenant",
                f"turn off hide_phone_number there; {_SETUP} does, if it made the rule",
            )
        if rule.rule.WhichOneof("rule") == "dispatch_rule_direct":
            yield warn(
                f"the rule {_named(rule)} brings all callers together in one room",
                f"use a rule with a room for each call; {_SETUP} does, if it made the rule",
            )
        if rule.rule.WhichOneof("rule") == "dispatch_rule_individual":
            yield warn(
                f"the rule {_named(rule)} makes the caller's number a part of the room's name, which logs and records "
                "of calls hold",
                f"use a callee rule with randomize; {_SETUP} does, if it made the rule",
            )


def _trunks(numbers: dict[str, str], sending: list[SIPDispatchRuleInfo], there: Telephony) -> Iterator[Finding]:
    """Whether anybody at all may hand over a call."""
    used = {each for rule in sending for each in rule.trunk_ids}
    used |= {trunk.sip_trunk_id for number in numbers if (trunk := there.trunk_of(number))}
    for trunk in there.inbound:
        if trunk.sip_trunk_id in used and is_open(trunk):
            yield warn(
                f"the trunk {_named(trunk)} takes calls from anywhere: whoever finds its address can name any number "
                "as theirs",
                "lkmongo phone setup --apply with --allowed-address and the provider's networks, or --auth-username; "
                "on a trunk that it has not made, set the same there",
            )


def _outbound(trunk_id: str | None, there: Telephony) -> Iterator[Finding]:
    if trunk_id and trunk_id not in {each.sip_trunk_id for each in there.outbound}:
        yield fail(
            f"LKMONGO_SIP_TRUNK is {trunk_id}, and LiveKit has no such outbound trunk",
            "lkmongo phone setup --outbound ADDRESS --apply makes one, and says what to set",
        )


def _known(settings: Settings) -> Iterator[Finding]:
    """What it takes to know who calls."""
    try:
        with extra("phone", "reading telephone numbers"):
            import phonenumbers  # noqa: F401
    except MissingExtraError as error:
        yield fail(error.message, error.hint)
    if settings.mongodb_uri and not settings.erasure_key:  # the embedded mongod has a key by itself
        yield warn(
            "numbers are kept under a key, and LKMONGO_ERASURE_KEY is not set: every caller is a stranger",
            "set it to the same on every machine: openssl rand -hex 32",
        )


def _named(info: SIPInboundTrunkInfo | SIPDispatchRuleInfo) -> str:
    found: str = getattr(info, "sip_dispatch_rule_id", "") or getattr(info, "sip_trunk_id", "")
    return f"{found} ({info.name})" if info.name else found
