"""A token taken apart, for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lkmongo.cli.fields import show_fields

if TYPE_CHECKING:
    from lkmongo.cli.command import Cli
    from lkmongo.token_inspection import Inspection, SentAgent


def show_inspection(cli: Cli, token: Inspection) -> None:
    """Write what a token says.

    Raises:
        RefusedTokenError: a server would refuse it.
    """
    from lkmongo.token_inspection import RefusedTokenError

    if cli.output.is_json:
        cli.output.record(_for_programs(token), "")
    else:
        show_fields(cli, _for_people(token))
        for note in token.notes:
            cli.output.note(f"note: {note}")
    if token.problems:
        raise RefusedTokenError(
            f"a server would refuse this token: {'; '.join(token.problems)}",
            hint="compare LIVEKIT_API_KEY and LIVEKIT_API_SECRET with those of the server"
            if token.signature == "wrong"
            else "mint another one: lkmongo token",
        )


def _for_programs(token: Inspection) -> dict[str, Any]:
    return {
        "accepted": not token.problems,
        "problems": token.problems,
        "notes": token.notes,
        "signature": token.signature,
        "issuer": token.issuer,
        "room_name": token.room,
        "participant_identity": token.participant,
        "participant_name": token.name or None,
        "participant_metadata": token.metadata or None,
        "participant_attributes": token.attributes,
        "not_before": token.not_before,
        "expires_at": token.expires_at,
        "may": token.may,
        "agents": [_agent(each) for each in token.agents],
    }


def _agent(sent: SentAgent) -> dict[str, Any]:
    """What an agent is told; null where only LIVEKIT_API_SECRET could tell."""
    found = sent.dispatched
    return {
        "agent_name": sent.agent_name,
        "sealed": sent.sealed,
        "guest": found.guest if found else None,
        "user_id": found.identity.user_id if found and not found.guest else None,
        "tenant_id": found.identity.tenant_id if found else None,
        "why": found.why if found else None,
        "participant_identity": found.participant if found else None,
    }


def _for_people(token: Inspection) -> dict[str, Any]:
    from lkmongo.token_inspection import relative

    at = datetime.now(UTC)
    when = {
        name: f"{moment.isoformat()}, {relative(moment, at)}" if moment else "(not said)"
        for name, moment in (("valid from", token.not_before), ("expires", token.expires_at))
    }
    fields: dict[str, Any] = {"room": token.room, "identity": token.participant}
    if token.name:
        fields["name"] = token.name
    if token.metadata:
        fields["metadata"] = token.metadata if len(token.metadata) <= 200 else f"{len(token.metadata):,} characters"
    if token.attributes:
        fields["attributes"] = ", ".join(f"{key}={value}" for key, value in token.attributes.items())
    fields |= when | {"may": ", ".join(token.may) or "nothing", "issuer": token.issuer, "signature": token.signature}
    if not token.agents:
        fields["agent"] = "none is sent"
    for number, sent in enumerate(token.agents, 1):
        fields["agent" if number == 1 else f"agent {number}"] = _sentence(sent)
    return fields


def _sentence(sent: SentAgent) -> str:
    name, found = sent.agent_name or "(no name)", sent.dispatched
    if found is None:
        return f"{name} is told who the caller is, sealed"
    who = "a guest" if found.guest else found.identity.user_id
    why = f" ({found.why})" if found.why else " (sealed)" if sent.sealed else ""
    return f"{name} takes the caller for {who} of tenant {found.identity.tenant_id}{why}"
