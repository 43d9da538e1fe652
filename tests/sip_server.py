"""A local server that answers LiveKit's SIP service as far as lkmongo asks it, for tests; see `livekit_api` for others.

It refuses what a real server refuses, in the same words. Its answers were compared with those of livekit-server 1.11.0
with redis, 91 questions: trunks and rules made, listed, changed, replaced, deleted, in conflict, incomplete; calls. The
errors of a call are what that server makes of those of a SIP node, which answered it over redis as livekit-sip does:
403, 404, 408, 480, 486, 487, 503, 600, 603, and a telephone that rings until the time is over. Where the two differ,
this one is stricter:

- The same number written in two ways (`+49 30 112`, `4930112`) is in conflict, as from 1.13 on.
- What lkmongo does not ask is refused as unimplemented: pages of a list, a rule in the deprecated fields of the
  request, a call with a trunk, headers or a destination of its own.
- A secret that does not fit is said in Twirp's form; the real server's answer has none.

Lists are in no order that can be relied on, as there: ids are random.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web
from google.protobuf.message import Message
from livekit import api
from livekit.protocol.models import ListUpdate
from livekit.protocol.sip import SIPStatusCode

from tests import livekit_api
from tests.livekit_api import RefusedError, Rooms, answering

ANSWERED, NO_ANSWER, RINGS = "answered", "no answer", "rings"
"""How a call goes besides a SIP status: nobody answers within the request's ringing time, which is not waited for;
or it rings until `Telephony.picked_up` is set."""
BUSY, UNAVAILABLE, TIMEOUT, DECLINED = 486, 480, 408, 603
_REASONS = {BUSY: "Busy Here", UNAVAILABLE: "Temporarily Unavailable", TIMEOUT: "Request Timeout", DECLINED: "Decline"}
_CODES = {
    403: (403, "permission_denied"),
    404: (404, "not_found"),
    408: (408, "deadline_exceeded"),
    480: (429, "resource_exhausted"),
    486: (429, "resource_exhausted"),
    487: (409, "aborted"),
    503: (412, "failed_precondition"),
    600: (429, "resource_exhausted"),
    603: (403, "permission_denied"),
}
"""The HTTP status and the Twirp code that a SIP status becomes."""


@dataclass
class Dialled:
    """A call that was asked for, and the attributes that its participant has."""

    request: api.CreateSIPParticipantRequest
    attributes: dict[str, str]
    call_id: str
    identity: str


@dataclass
class Telephony:
    """What the server knows.

    Attributes:
        inbound, outbound, rules: by their ids.
        answers: how a call to a number goes: `ANSWERED` if it is not said, `NO_ANSWER`, `RINGS`, or a SIP status.
        dialled: the calls that were asked for.
        on_dial: awaited before a call goes as it goes, as its participant is in the room by then.
        picked_up: set it, and calls that ring are answered.
        changes: the names of the calls that changed something.
    """

    inbound: dict[str, api.SIPInboundTrunkInfo] = field(default_factory=dict)
    outbound: dict[str, api.SIPOutboundTrunkInfo] = field(default_factory=dict)
    rules: dict[str, api.SIPDispatchRuleInfo] = field(default_factory=dict)
    answers: dict[str, str | int] = field(default_factory=dict)
    dialled: list[Dialled] = field(default_factory=list)
    on_dial: Callable[[Dialled], Awaitable[None]] | None = None
    picked_up: asyncio.Event = field(default_factory=asyncio.Event)
    changes: list[str] = field(default_factory=list)

    def add_inbound(self, **fields: Any) -> str:
        """Somebody made this trunk; its id."""
        trunk = api.SIPInboundTrunkInfo(**fields)
        _check_inbound(trunk)
        return _stored(self.inbound, "sip_trunk_id", "ST", trunk)

    def add_outbound(self, **fields: Any) -> str:
        trunk = api.SIPOutboundTrunkInfo(**fields)
        _check_outbound(trunk)
        return _stored(self.outbound, "sip_trunk_id", "ST", trunk)

    def add_rule(self, **fields: Any) -> str:
        rule = api.SIPDispatchRuleInfo(**fields)
        _check_rules([*self.rules.values(), rule])
        return _stored(self.rules, "sip_dispatch_rule_id", "SDR", rule)


TELEPHONY = web.AppKey("telephony", Telephony)
_FORWARD = web.AppKey("forward", str)


def _invalid(why: str) -> RefusedError:
    return RefusedError(400, "invalid_argument", why)


def _new_id(prefix: str) -> str:
    return f"{prefix}_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))


def _stored(there: dict[str, Any], id_field: str, prefix: str, info: Any) -> str:
    setattr(info, id_field, key := _new_id(prefix))
    there[key] = info
    return key


def _normalised(number: str) -> str:
    if not re.fullmatch(r"\+?[\d\- ()]+", number):
        return number
    return "+" + re.sub(r"[ ()+-]", "", number)


def _quoted(texts: Iterable[str]) -> str:
    return "[" + " ".join(f'"{each}"' for each in texts) + "]"


def _check_inbound(trunk: api.SIPInboundTrunkInfo) -> None:
    if not (trunk.auth_username or trunk.auth_password or trunk.allowed_addresses or trunk.numbers):
        raise _invalid(
            "for security, one of the fields must be set: AuthUsername+AuthPassword, AllowedAddresses or Numbers"
        )


def _check_trunks(trunks: Iterable[api.SIPInboundTrunkInfo]) -> None:
    """No two of them may take the same call: the number dialled, and the number that calls, where a trunk says it."""
    taken: dict[tuple[str, str], api.SIPInboundTrunkInfo] = {}
    for trunk in trunks:
        for number in {_normalised(each) for each in trunk.numbers} or {""}:
            for calling in trunk.allowed_numbers or [""]:
                other = taken.setdefault((number, _normalised(calling)), trunk)
                if other is not trunk:
                    names = (f'"{each.sip_trunk_id or "<new>"}"' for each in (trunk, other))
                    numbers = _quoted(trunk.numbers) if trunk.numbers else "<any>"
                    with_what = f'and AllowedNumber "{calling}"' if calling else "without AllowedNumbers set"
                    raise _invalid(
                        f"Conflicting inbound SIP Trunks: {' and '.join(names)}, "
                        f"using the same number(s) {numbers} {with_what}"
                    )


def _check_outbound(trunk: api.SIPOutboundTrunkInfo) -> None:
    if not trunk.numbers:
        raise _invalid("no trunk numbers specified")
    if not trunk.address:
        raise _invalid("no outbound address specified")
    if "transport=" in trunk.address:
        raise _invalid("trunk address should not contain transport parameter")
    if re.search("[@;]", trunk.address) or trunk.address.startswith(("sip:", "sips:")):
        raise _invalid("trunk address should be a hostname or IP, not SIP URI")


def _check_rules(rules: Iterable[api.SIPDispatchRuleInfo]) -> None:
    """No two of them may match the same call."""
    taken: dict[tuple[str, str, str, str], api.SIPDispatchRuleInfo] = {}
    for rule in rules:
        if not rule.HasField("rule"):
            raise _invalid("missing rule")
        kind = rule.rule.WhichOneof("rule")
        if kind is None:
            raise RefusedError(500, "unknown", "Unsupported SIP Dispatch Rule: <nil>")
        for trunk in rule.trunk_ids or [""]:
            for calling in rule.inbound_numbers or [""]:
                for number in rule.numbers or [""]:
                    key = (getattr(rule.rule, kind).pin, trunk, _normalised(calling), _normalised(number))
                    other = taken.setdefault(key, rule)
                    if other is not rule:
                        raise _invalid(
                            "Dispatch rule for the same trunk, inbound number, number, and PIN combination already "
                            f'exists in dispatch rule "{other.sip_dispatch_rule_id or "<new>"}" '
                            f'"{other.name or "<blank name>"}"'
                        )


def _changed_list(there: Any, update: ListUpdate) -> None:
    change = bool(update.add or update.remove)
    if not (update.set or change or update.clear):
        raise _invalid("unsupported list update operation")
    if update.clear and (update.set or change):
        raise _invalid("cannot clear and change the list at the same time")
    if update.set and change:
        raise _invalid("cannot set and change the list at the same time")
    if "" in [*update.set, *update.add, *update.remove]:
        raise _invalid("empty element in the list")
    kept = update.set or [each for each in there if each not in {*update.remove, *update.add}] + [*update.add]
    there[:] = [] if update.clear else list(kept)


def _changed(info: Any, update: Any) -> None:
    """Apply an update of some fields, as the server does: empty attributes are taken out."""
    for descriptor, value in update.ListFields():
        if isinstance(value, ListUpdate):
            _changed_list(getattr(info, descriptor.name), value)
        elif descriptor.name == "attributes":
            for key, text in value.items():
                info.attributes[key] = text
                if not text:
                    del info.attributes[key]
        elif isinstance(value, Message):
            getattr(info, descriptor.name).CopyFrom(value)
        else:
            setattr(info, descriptor.name, value)
    for descriptor in update.DESCRIPTOR.fields:  # one that is set to what is the default is not among those above
        if descriptor.message_type is None and update.HasField(descriptor.name):
            setattr(info, descriptor.name, getattr(update, descriptor.name))


def _updated(asked: Any, there: dict[str, Any], id_field: str, noun: str, missing: str) -> Any:
    """The object as it would be after an update; nothing is stored yet."""
    key = getattr(asked, id_field)
    if not key:
        raise _invalid(f"{noun.split()[-1]} id must be set")
    action = asked.WhichOneof("action")
    if action is None:
        raise _invalid("missing or unsupported update action")
    if action == "replace" and getattr(asked.replace, id_field) not in {"", key}:
        raise _invalid(f"{noun.split()[-1]} id in the info must be empty or match the id in the update")
    if key not in there:
        raise RefusedError(404, "not_found", missing)
    info = type(there[key])()
    if action == "replace":
        info.CopyFrom(asked.replace)
        setattr(info, id_field, key)
    else:
        info.CopyFrom(there[key])
        _changed(info, asked.update)
    return info


_NO_TRUNK, _NO_RULE = "requested sip trunk does not exist", "requested sip dispatch rule does not exist"


async def _create_inbound(known: Telephony, asked: api.CreateSIPInboundTrunkRequest) -> Any:
    trunk = _new(asked, "trunk", "sip_trunk_id")
    _check_inbound(trunk)
    _check_trunks([*known.inbound.values(), trunk])
    _stored(known.inbound, "sip_trunk_id", "ST", trunk)
    return trunk


async def _create_outbound(known: Telephony, asked: api.CreateSIPOutboundTrunkRequest) -> Any:
    trunk = _new(asked, "trunk", "sip_trunk_id")
    _check_outbound(trunk)
    _stored(known.outbound, "sip_trunk_id", "ST", trunk)
    return trunk


def _new(asked: Any, part: str, id_field: str) -> Any:
    if not asked.HasField(part):
        raise _invalid(f"missing {part}")
    if getattr(getattr(asked, part), id_field):
        raise _invalid(f"{part.split('_')[-1]} id must not be set")
    return getattr(asked, part)


async def _update_inbound(known: Telephony, asked: api.UpdateSIPInboundTrunkRequest) -> Any:
    trunk = _updated(asked, known.inbound, "sip_trunk_id", "trunk", _NO_TRUNK)
    _check_inbound(trunk)
    _check_trunks([trunk if each.sip_trunk_id == trunk.sip_trunk_id else each for each in known.inbound.values()])
    known.inbound[trunk.sip_trunk_id] = trunk
    return trunk


async def _update_outbound(known: Telephony, asked: api.UpdateSIPOutboundTrunkRequest) -> Any:
    trunk = _updated(asked, known.outbound, "sip_trunk_id", "trunk", _NO_TRUNK)
    _check_outbound(trunk)
    known.outbound[trunk.sip_trunk_id] = trunk
    return trunk


async def _list_trunks(there: dict[str, Any], asked: Any, response: Any) -> Any:
    if asked.HasField("page"):
        raise RefusedError(501, "unimplemented", "pages")
    numbers = {_normalised(each) for each in asked.numbers}
    for key in sorted(there):
        if asked.trunk_ids and key not in asked.trunk_ids:
            continue
        # One without numbers takes them all.
        if not numbers or not there[key].numbers or numbers & {_normalised(each) for each in there[key].numbers}:
            response.items.append(there[key])
    return response


async def _list_inbound(known: Telephony, asked: api.ListSIPInboundTrunkRequest) -> Any:
    return await _list_trunks(known.inbound, asked, api.ListSIPInboundTrunkResponse())


async def _list_outbound(known: Telephony, asked: api.ListSIPOutboundTrunkRequest) -> Any:
    return await _list_trunks(known.outbound, asked, api.ListSIPOutboundTrunkResponse())


async def _delete_trunk(known: Telephony, asked: api.DeleteSIPTrunkRequest) -> Any:
    if not asked.sip_trunk_id:
        raise _invalid("trunk ID is required")
    known.inbound.pop(asked.sip_trunk_id, None)  # the server does not say that there is none
    known.outbound.pop(asked.sip_trunk_id, None)
    return api.SIPTrunkInfo(sip_trunk_id=asked.sip_trunk_id)


async def _create_rule(known: Telephony, asked: api.CreateSIPDispatchRuleRequest) -> Any:
    if not asked.HasField("dispatch_rule"):
        raise RefusedError(501, "unimplemented", "the fields of the request itself are deprecated: use dispatch_rule")
    rule = _new(asked, "dispatch_rule", "sip_dispatch_rule_id")
    _check_rules([*known.rules.values(), rule])
    _stored(known.rules, "sip_dispatch_rule_id", "SDR", rule)
    return rule


async def _update_rule(known: Telephony, asked: api.UpdateSIPDispatchRuleRequest) -> Any:
    rule = _updated(asked, known.rules, "sip_dispatch_rule_id", "rule", _NO_RULE)
    key = rule.sip_dispatch_rule_id
    _check_rules([rule if each.sip_dispatch_rule_id == key else each for each in known.rules.values()])
    known.rules[key] = rule
    return rule


async def _list_rules(known: Telephony, asked: api.ListSIPDispatchRuleRequest) -> Any:
    if asked.HasField("page"):
        raise RefusedError(501, "unimplemented", "pages")
    wanted = set(asked.trunk_ids)
    return api.ListSIPDispatchRuleResponse(
        items=[
            rule
            for key, rule in sorted(known.rules.items())
            if (not asked.dispatch_rule_ids or key in asked.dispatch_rule_ids)
            and (not wanted or not rule.trunk_ids or wanted & set(rule.trunk_ids))
        ]
    )


async def _delete_rule(known: Telephony, asked: api.DeleteSIPDispatchRuleRequest) -> Any:
    if not asked.sip_dispatch_rule_id:
        raise _invalid("dispatch rule ID is required")
    if asked.sip_dispatch_rule_id not in known.rules:
        raise RefusedError(404, "not_found", _NO_RULE)
    return known.rules.pop(asked.sip_dispatch_rule_id)


async def _dial(known: Telephony, asked: api.CreateSIPParticipantRequest) -> Any:
    if asked.HasField("trunk") or asked.HasField("destination") or asked.headers:
        raise RefusedError(501, "unimplemented", "a trunk, a destination or headers of the request")
    if not asked.sip_trunk_id:
        raise _invalid("missing sip trunk id")
    if not asked.sip_call_to:
        raise _invalid("missing sip callee number")
    if "@" in asked.sip_call_to:
        raise _invalid("SipCallTo should be a phone number or SIP user, not a full SIP URI")
    if not asked.room_name:
        raise _invalid("missing room name")
    if asked.sip_trunk_id not in known.outbound:
        raise RefusedError(404, "not_found", _NO_TRUNK)
    trunk = known.outbound[asked.sip_trunk_id]
    attributes = dict(asked.participant_attributes)
    attributes |= {"sip.callID": (call_id := _new_id("SCL")), "sip.trunkID": asked.sip_trunk_id}
    if not asked.hide_phone_number:
        attributes |= {"sip.phoneNumber": asked.sip_call_to, "sip.hostname": trunk.address}
        attributes["sip.trunkPhoneNumber"] = asked.sip_number or trunk.numbers[0]
    call = Dialled(asked, attributes, call_id, asked.participant_identity or f"sip_{asked.sip_call_to}")
    known.dialled.append(call)
    if known.on_dial:
        await known.on_dial(call)
    if asked.wait_until_answered:
        await _outcome(known, known.answers.get(asked.sip_call_to, ANSWERED))
    return api.SIPParticipantInfo(
        participant_id=_new_id("PA"),
        participant_identity=call.identity,
        room_name=asked.room_name,
        sip_call_id=call_id,
    )


async def _outcome(known: Telephony, how: str | int) -> None:
    if how == RINGS:
        await known.picked_up.wait()
    elif how == NO_ANSWER:
        raise RefusedError(408, "canceled", "twirp error unknown: sip request timed out")
    elif isinstance(how, int):
        status, code = _CODES[how]
        name = SIPStatusCode.Name(SIPStatusCode.ValueType(how))
        said = f": {_REASONS[how]}" if how in _REASONS else f" ({name.removeprefix('SIP_STATUS_')})"
        meta = {"sip_status_code": str(how), "sip_status": _REASONS.get(how, name)}
        raise RefusedError(status, code, f"twirp error unknown: INVITE failed: sip status: {how}{said}", meta)


_ADMIN: dict[str, tuple[Any, Any]] = {
    "CreateSIPInboundTrunk": (_create_inbound, api.CreateSIPInboundTrunkRequest),
    "CreateSIPOutboundTrunk": (_create_outbound, api.CreateSIPOutboundTrunkRequest),
    "UpdateSIPInboundTrunk": (_update_inbound, api.UpdateSIPInboundTrunkRequest),
    "UpdateSIPOutboundTrunk": (_update_outbound, api.UpdateSIPOutboundTrunkRequest),
    "ListSIPInboundTrunk": (_list_inbound, api.ListSIPInboundTrunkRequest),
    "ListSIPOutboundTrunk": (_list_outbound, api.ListSIPOutboundTrunkRequest),
    "DeleteSIPTrunk": (_delete_trunk, api.DeleteSIPTrunkRequest),
    "CreateSIPDispatchRule": (_create_rule, api.CreateSIPDispatchRuleRequest),
    "UpdateSIPDispatchRule": (_update_rule, api.UpdateSIPDispatchRuleRequest),
    "ListSIPDispatchRule": (_list_rules, api.ListSIPDispatchRuleRequest),
    "DeleteSIPDispatchRule": (_delete_rule, api.DeleteSIPDispatchRuleRequest),
}
_CALLS: dict[str, tuple[Any, Any]] = {"CreateSIPParticipant": (_dial, api.CreateSIPParticipantRequest)}


def _allowed(method: str, handler: Any, message: Any, grant: str) -> Any:
    async def handle(request: web.Request, claims: Any) -> Any:
        if not (claims.sip and getattr(claims.sip, grant)):
            raise PermissionError
        known = request.app[TELEPHONY]
        answer = await handler(known, message.FromString(await request.read()))
        if not method.startswith("List"):
            known.changes.append(method)
        return answer

    return answering(handle)


async def _forward(request: web.Request) -> web.Response:
    """Everything that is not SIP goes to a real server, whose rooms the calls are in."""
    async with ClientSession() as session:
        where = request.app[_FORWARD].replace("ws", "http", 1).rstrip("/") + request.path
        sent = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        async with session.post(where, data=await request.read(), headers=sent) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


def create_app(
    telephony: Telephony | None = None,
    *,
    secret: str = livekit_api.SECRET,
    rooms: Rooms | None = None,
    forward: str | None = None,
) -> web.Application:
    """The server; its key is `livekit_api.KEY`.

    Args:
        telephony: what it knows of telephones.
        secret: of the key.
        rooms: what it knows of rooms.
        forward: address of a real server, with this key and secret, that answers what is not about telephones.
    """
    app = web.Application() if forward else livekit_api.create_app(secret, rooms)
    app[TELEPHONY] = telephony or Telephony()
    for grant, methods in (("admin", _ADMIN), ("call", _CALLS)):
        for method, (handler, message) in methods.items():
            app.router.add_post(f"/twirp/livekit.SIP/{method}", _allowed(method, handler, message, grant))
    if forward:
        app[_FORWARD] = forward
        app.router.add_post("/twirp/{path:.*}", _forward)
    return app
