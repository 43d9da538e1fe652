"""Makes LiveKit hand calls to the agent: an inbound trunk with the numbers and a dispatch rule; and a trunk to dial by.

What is there is compared with what should be, by meaning; only what this has made is changed, and of that only what it
knows: what somebody set beside it (headers, codecs, noise cancellation, allowed callers) stays. A trunk is known by its
name and a mark in its metadata, which no caller gets to see; a rule, whose metadata each caller inherits, by its name
and the trunk it is of.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lkmongo.errors import NotFoundError
from lkmongo.livekit_api import PATIENCE, livekit_client
from lkmongo.phone_numbers import masked
from lkmongo.telephony import Telephony, is_open, plain_number, read_telephony, sends, telephony_errors

if TYPE_CHECKING:
    from livekit.api import LiveKitAPI, SIPDispatchRuleInfo, SIPInboundTrunkInfo, SIPOutboundTrunkInfo
    from pydantic import SecretStr

    from lkmongo.settings import LiveKitCredentials

NAME = "lkmongo"
"""Of trunk and rule, if no other is given."""
ROOM_PREFIX = "call"
TRUNK_TO_COME = "<id of the trunk>"
"""In the rule's definition, as long as there is no trunk."""
_MARK = {"made_by": "lkmongo phone setup"}


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What there should be. What is None or empty is not looked at, except `numbers`.

    Attributes:
        numbers: of the trunk, in E.164: those that callers dial, or those that calls go out from.
        agent_name: who is sent into the room of a call.
        name: of trunk and rule, by which several set-ups of one project are told apart.
        trunk_id: of a trunk that somebody else takes care of, and that is left as it is.
        username: with which the telephone network signs in, or by which LiveKit does there.
        password: likewise.
        allowed_addresses: from where calls may come, as networks.
        address: of the telephone network for calls that go out, host or host:port.
        transport: "udp", "tcp" or "tls", of such calls.
    """

    numbers: tuple[str, ...]
    agent_name: str
    name: str = NAME
    trunk_id: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    allowed_addresses: tuple[str, ...] = ()
    address: str | None = None
    transport: str | None = None


@dataclass(frozen=True)
class Change:
    """One trunk or rule, and what is or was to be done.

    Attributes:
        part: "inbound trunk", "outbound trunk" or "dispatch rule".
        name: of the trunk or the rule.
        id: LiveKit's; None as long as there is none.
        action: what is to be done.
        detail: what differs, or stands in the way.
        hint: what to do about that; without a number.
        info: how it should be.
        fields: of a trunk, those that change.
    """

    part: str
    name: str
    id: str | None
    action: Action
    detail: str = ""
    hint: str = ""
    info: Any = None
    fields: dict[str, Any] | None = None

    @property
    def definition(self) -> dict[str, Any]:
        """How it should be, as JSON with the names of LiveKit's API, without the password."""
        from google.protobuf.json_format import MessageToDict

        found: dict[str, Any] = MessageToDict(self.info, preserving_proto_field_name=True) if self.info else {}
        return found | ({"auth_password": "***"} if found.get("auth_password") else {})


# ---------------------------------------------------------------------- what is to be done


def plan(wanted: Wanted, there: Telephony) -> list[Change]:
    """Compare what should be with what is there, without changing anything.

    Raises:
        NotFoundError: there is no trunk `wanted.trunk_id`.
    """
    if wanted.address:
        return [_outbound_trunk(wanted, there)]
    trunk = _given_trunk(wanted, there) if wanted.trunk_id else _inbound_trunk(wanted, there)
    return [trunk, _dispatch_rule(wanted, there, trunk.id)]


def definitions(wanted: Wanted) -> list[Change]:
    """What would be made where there is nothing yet but the trunk `wanted.trunk_id`."""
    from livekit import api

    given = [api.SIPInboundTrunkInfo(sip_trunk_id=wanted.trunk_id)] if wanted.trunk_id else []
    return [each for each in plan(wanted, Telephony(given)) if each.action is Action.CREATE]


def _inbound_trunk(wanted: Wanted, there: Telephony) -> Change:
    from livekit import api

    ours = next((each for each in there.inbound if is_ours(each, wanted.name)), None)
    # Trunks of one number are in each other's way unless they say whose calls they take.
    others = [each for each in there.inbound if each is not ours and not each.allowed_numbers]
    if ours and ours.allowed_numbers:
        others = []
    if taken := next((each for each in others if _common(each.numbers, wanted.numbers)), None):
        number = masked(_common(taken.numbers, wanted.numbers)[0])
        return Change(
            "inbound trunk",
            wanted.name,
            ours.sip_trunk_id if ours else None,
            Action.BLOCKED,
            f"the number {number} is on the trunk {taken.sip_trunk_id}{_named(taken)}, which is not of this set-up",
            f"lkmongo phone setup --trunk {taken.sip_trunk_id} leaves that trunk as it is; or take the number off it",
        )
    fields: dict[str, Any] = {"numbers": list(wanted.numbers), **_sign_in(wanted)}
    if wanted.allowed_addresses:
        fields["allowed_addresses"] = list(wanted.allowed_addresses)
    if ours is None:
        info = api.SIPInboundTrunkInfo(name=wanted.name, metadata=json.dumps(_MARK), **fields)
        detail = f"{_numbers(wanted.numbers)}{_anybody(info)}"
        return Change("inbound trunk", wanted.name, None, Action.CREATE, detail, info=info)
    return _compared("inbound trunk", ours, fields)


def _given_trunk(wanted: Wanted, there: Telephony) -> Change:
    found = next((each for each in there.inbound if each.sip_trunk_id == wanted.trunk_id), None)
    if found is None:
        raise NotFoundError(
            f"LiveKit has no inbound trunk {wanted.trunk_id}",
            hint="lkmongo phone setup without --trunk makes one; lk sip inbound list shows those that are there",
        )
    missing = [each for each in wanted.numbers if not _common(found.numbers, [each])] if found.numbers else []
    base = Change("inbound trunk", found.name, found.sip_trunk_id, Action.UNCHANGED, "left as it is", info=found)
    if missing:
        detail = f"{_numbers(missing)} not on it"
        return replace(base, action=Action.BLOCKED, detail=detail, hint="put what is missing on the trunk")
    return replace(base, detail=base.detail + _anybody(found))


def _outbound_trunk(wanted: Wanted, there: Telephony) -> Change:
    from livekit import api

    fields: dict[str, Any] = {"address": wanted.address, "numbers": list(wanted.numbers), **_sign_in(wanted)}
    if wanted.transport:
        fields["transport"] = api.SIPTransport.Value(f"SIP_TRANSPORT_{wanted.transport.upper()}")
    ours = next((each for each in there.outbound if is_ours(each, wanted.name)), None)
    if ours is None:
        info = api.SIPOutboundTrunkInfo(name=wanted.name, metadata=json.dumps(_MARK), **fields)
        detail = f"{_numbers(wanted.numbers)} by way of {wanted.address}"
        return Change("outbound trunk", wanted.name, None, Action.CREATE, detail, info=info)
    return _compared("outbound trunk", ours, fields)


def _dispatch_rule(wanted: Wanted, there: Telephony, trunk_id: str | None) -> Change:
    from livekit import api

    alive = {each.sip_trunk_id for each in there.inbound}
    ours = next((each for each in there.rules if _is_ours(each, wanted.name, trunk_id, alive)), None)
    for other in there.rules:
        if other is not ours and trunk_id in other.trunk_ids and _takes_every_call(other):
            return _other_rule(wanted, other)
    info = api.SIPDispatchRuleInfo()
    info.CopyFrom(ours if ours is not None else api.SIPDispatchRuleInfo(name=wanted.name))
    # Not the individual rule: it makes the caller's number a part of the room's name, which is in every log, in the
    # record of the call and in the metrics. This one has the number dialled there instead.
    current = getattr(info.rule, info.rule.WhichOneof("rule") or "dispatch_rule_callee")
    callee = api.SIPDispatchRuleCallee(
        room_prefix=getattr(current, "room_prefix", "") or ROOM_PREFIX, pin=current.pin, randomize=True
    )
    info.rule.CopyFrom(api.SIPDispatchRule(dispatch_rule_callee=callee))
    info.hide_phone_number = False  # LiveKit would give neither the caller's number nor the one dialled
    kept = [each for each in info.trunk_ids if each in alive or each == trunk_id]
    info.trunk_ids[:] = kept if trunk_id in kept else [*kept, trunk_id or TRUNK_TO_COME]
    mine = next((each for each in info.room_config.agents if each.agent_name == wanted.agent_name), None)
    dispatch = mine or api.RoomAgentDispatch(agent_name=wanted.agent_name)
    del info.room_config.agents[:]
    info.room_config.agents.append(dispatch)
    if ours is None:
        detail = f"sends {wanted.agent_name} into a room for each call"
        return Change("dispatch rule", wanted.name, None, Action.CREATE, detail, info=info)
    different = [text for text, differs in _rule_differences(wanted, ours, info).items() if differs]
    return Change(
        "dispatch rule",
        wanted.name,
        ours.sip_dispatch_rule_id,
        Action.UPDATE if different else Action.UNCHANGED,
        "; ".join(different),
        info=info,
    )


def _rule_differences(wanted: Wanted, ours: SIPDispatchRuleInfo, info: SIPDispatchRuleInfo) -> dict[str, bool]:
    agents = [each.agent_name for each in ours.room_config.agents]
    return {
        "a room of its own for each call, named by the number dialled": ours.rule != info.rule,
        "shows the caller's number": ours.hide_phone_number,
        "the trunk": list(ours.trunk_ids) != list(info.trunk_ids),
        f"sends {wanted.agent_name} instead of {' and '.join(agents) or 'nobody'}": agents != [wanted.agent_name],
    }


def _other_rule(wanted: Wanted, rule: SIPDispatchRuleInfo) -> Change:
    """A rule of somebody else's for all calls of the trunk: it does what is wanted, or is in the way."""
    base = Change("dispatch rule", rule.name, rule.sip_dispatch_rule_id, Action.UNCHANGED, "made elsewhere", info=rule)
    wrong = []
    if not sends(rule, wanted.agent_name):
        wrong.append(f"does not send {wanted.agent_name}")
    if rule.hide_phone_number:
        wrong.append("hides the caller's number")
    if not wrong:
        return base
    return replace(
        base,
        action=Action.BLOCKED,
        detail=f"has the calls of the trunk, was made elsewhere, and {' and '.join(wrong)}",
        hint=f"change or delete it; called {wanted.name}, it is taken care of from then on",
    )


def is_ours(trunk: SIPInboundTrunkInfo | SIPOutboundTrunkInfo, name: str) -> bool:
    """Whether this has made a trunk, under that name."""
    try:
        mark = json.loads(trunk.metadata)
    except ValueError:
        return False
    return trunk.name == name and isinstance(mark, dict) and mark.items() >= _MARK.items()


def _is_ours(rule: SIPDispatchRuleInfo, name: str, trunk_id: str | None, alive: set[str]) -> bool:
    """Whether it is the rule of this name on the trunk, or on trunks that are gone."""
    return rule.name == name and bool(rule.trunk_ids) and (trunk_id in rule.trunk_ids or not alive & {*rule.trunk_ids})


def _takes_every_call(rule: SIPDispatchRuleInfo) -> bool:
    kind = rule.rule.WhichOneof("rule")
    return not (rule.inbound_numbers or rule.numbers or (kind and getattr(rule.rule, kind).pin))


def _compared(part: str, ours: Any, fields: dict[str, Any]) -> Change:
    """Which of the fields differ from those of a trunk of ours."""
    changed: dict[str, Any] = {}
    details = []
    for name, value in fields.items():
        current = getattr(ours, name)
        if name == "numbers":
            added = [each for each in value if not _common(current, [each])]
            removed = [each for each in current if not _common(value, [each])]
            differs = bool(added or removed)
            texts = [f"{each} is added" for each in added] + [f"{each} is taken off" for each in removed]
        elif name == "auth_password":
            # LiveKit Cloud may show none, or stars: then only a change of the user name tells.
            differs = bool(current.strip("*")) and current != value
            texts = ["another password"]
        else:
            differs = (sorted(current) != sorted(value)) if isinstance(value, list) else current != value
            texts = [f"another {_WORDS[name]}"]
        if differs:
            changed[name] = value
            details += texts
    if "auth_username" in changed and "auth_password" in fields:
        changed["auth_password"] = fields["auth_password"]
    info = type(ours)()
    info.CopyFrom(ours)
    for name, value in changed.items():
        if isinstance(value, list):
            getattr(info, name)[:] = value
        else:
            setattr(info, name, value)
    action = Action.UPDATE if changed else Action.UNCHANGED
    detail = "; ".join(details) + (_anybody(info) if part == "inbound trunk" else "")
    return Change(part, ours.name, ours.sip_trunk_id, action, detail.removeprefix("; "), info=info, fields=changed)


_WORDS = {
    "allowed_addresses": "set of allowed addresses",
    "auth_username": "user name",
    "address": "address",
    "transport": "transport",
}


def _sign_in(wanted: Wanted) -> dict[str, str]:
    return ({"auth_username": wanted.username} if wanted.username else {}) | (
        {"auth_password": wanted.password.get_secret_value()} if wanted.password else {}
    )


def _common(some: Sequence[str], others: Sequence[str]) -> list[str]:
    there = {plain_number(each) for each in others}
    return [each for each in some if plain_number(each) in there]


def _named(info: Any) -> str:
    return f" ({info.name})" if info.name else ""


def _numbers(numbers: Sequence[str]) -> str:
    return ", ".join(numbers)


def _anybody(trunk: SIPInboundTrunkInfo) -> str:
    return "; takes calls from anywhere" if is_open(trunk) else ""


# ---------------------------------------------------------------------- doing it


async def apply(credentials: LiveKitCredentials, wanted: Wanted) -> list[Change]:
    """Make what is missing, and change what differs; nothing if anything is in the way. May be repeated at any time.

    Returns:
        What was done, with the ids of what is new.

    Raises:
        NotFoundError: there is no trunk `wanted.trunk_id`.
        NotSupportedError: the server has no telephony.
        LkmongoError: LiveKit refuses it.
        UnreachableError, AuthenticationError: as `call_livekit` raises them.
    """
    there = await read_telephony(credentials)
    changes = plan(wanted, there)
    if any(each.action is Action.BLOCKED for each in changes):
        return changes
    async with livekit_client(credentials) as client:
        done: list[Change] = []
        for change in changes:
            if change.part == "dispatch rule" and done and done[0].action is Action.CREATE:
                change = _dispatch_rule(wanted, there, done[0].id)  # noqa: PLW2901 - the id is known by now
            async with asyncio.timeout(PATIENCE):
                with telephony_errors():
                    done.append(await _do(client, change))
    return done


async def _do(client: LiveKitAPI, change: Change) -> Change:
    from livekit import api

    sip = client.sip
    create: dict[str, Callable[[], Awaitable[Any]]] = {
        "inbound trunk": lambda: sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=change.info)),
        "outbound trunk": lambda: sip.create_outbound_trunk(api.CreateSIPOutboundTrunkRequest(trunk=change.info)),
        "dispatch rule": lambda: sip.create_dispatch_rule(api.CreateSIPDispatchRuleRequest(dispatch_rule=change.info)),
    }
    # Of a trunk only the fields that change: what LiveKit shows of a password may not be the password. Of a rule only
    # all of it can be changed.
    key, fields = change.id or "", change.fields or {}
    update: dict[str, Callable[[], Awaitable[Any]]] = {
        "inbound trunk": lambda: sip.update_inbound_trunk_fields(key, **fields),
        "outbound trunk": lambda: sip.update_outbound_trunk_fields(key, **fields),
        "dispatch rule": lambda: sip.update_dispatch_rule(key, change.info),
    }
    if change.action is Action.CREATE:
        info = await create[change.part]()
        return replace(change, id=info.sip_dispatch_rule_id if change.part == "dispatch rule" else info.sip_trunk_id)
    if change.action is Action.UPDATE:
        await update[change.part]()
    return change
