"""What a guest had and their account does not take over silently: it waits until the person says whether to keep it.

An offer stands in `memory_history` as an entry without `valid_to`, for it was never true of the account: whatever reads
former values passes it over, and it is exported, limited, forgotten and erased with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.aio import aside
from lkmongo.confidential import WITHHELD
from lkmongo.errors import DriftError, InvalidTextError, NotFoundError
from lkmongo.instructions import reads_as_instruction
from lkmongo.model import MAX_SLOTS, Fact, UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption, sealed
from lkmongo.store.mongo.schema import MEMORY_HISTORY, STAMP
from lkmongo.store.people.history import FIELD, OFFERED, add_former, dates_of, source_of
from lkmongo.store.people.person import People
from lkmongo.store.people.users import Users

Document = dict[str, Any]
Kind = Literal["memory", "profile"]
Why = Literal["conflict", "instruction"]

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_MOST_FORMER = 20
"""Earlier values of the guest that an offer keeps."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A value of the guest.

    Attributes:
        id: of the offer, 24 hexadecimal digits.
        kind: a memory, or a field of the profile.
        label: of the slot, or the field.
        content: as it may be told.
        said_at: when it was said, if that is known.
        why: the account has another value, or it reads as an instruction to the assistant.
    """

    id: str
    kind: Kind
    label: str
    content: str
    said_at: datetime | None
    why: Why


async def keep_aside(
    db: AsyncDatabase[Document],
    login: UserScope,
    origin: str,
    kind: Kind,
    value: Document,
    why: Why,
    former: Sequence[Document],
    session: AsyncClientSession | None,
    in_time: Callable[[], AbstractContextManager[None]],
) -> None:
    """Offer a guest's value to the login, once however often it is done. Raises the driver's errors.

    Args:
        db: the database.
        login: to whom it is offered.
        origin: the guest whose it was, or the session in which they told it.
        kind: a memory, or a field of the profile.
        value: with its `memory_type`, which is the field's name for a profile, and `content`.
        why: it is offered and not merged.
        former: what the slot said before, the oldest first.
        session: of a transaction.
        in_time: bounds each step.
    """
    # Neither a slot nor another offer has such a label.
    label = value["memory_type"] if kind == "memory" else f"{FIELD}{value['memory_type']}"
    selector = login.filter | {"memory_type": label, "offered.kind": kind, "offered.from": origin}
    fields = {name: value[name] for name in ("content", "updated_at", "source", "dates") if value.get(name)}
    with in_time():
        there = await db[MEMORY_HISTORY].find_one(selector, {"offered.former.valid_from": 1}, session=session) or {}
    # By their time: of what is encrypted nobody can tell whether it says the same.
    had = {each.get("valid_from") for each in there.get("offered", {}).get("former", ())}
    added = [each for each in former if each.get("valid_from") not in had][-_MOST_FORMER:]
    told = {"memory_type": label, "offered": {"former": added}}
    told = sealed(await Encryption.of(db).cipher(login), MEMORY_HISTORY, fields | told)
    fields = {name: told[name] for name in fields}
    update: Document = {
        "$set": fields | {"offered.why": why} | STAMP,
        "$setOnInsert": {"valid_from": now()},
        "$push": {"offered.former": {"$each": told["offered"]["former"], "$slice": -_MOST_FORMER}},
    }
    with in_time():
        await db[MEMORY_HISTORY].update_one(selector, update, upsert=True, session=session)


async def offer_told(db: AsyncDatabase[Document], login: UserScope, told: Document, *, origin: str) -> None:
    """Offer what a guest told in a session before they were identified, unless anything was forgotten since.

    Args:
        db: the database.
        login: who they turned out to be.
        told: its `label`, `content`, `at`, and `source` and `dates` if it has them.
        origin: the session's id.
    """
    if await Users(db).forgot_after(login, told["at"]):
        return
    why: Why = "instruction" if reads_as_instruction(told["label"], told["content"]) else "conflict"
    value = told | {"memory_type": told["label"], "updated_at": told["at"]}
    await operations.upsert(lambda: _kept(keep_aside(db, login, origin, "memory", value, why, (), None, nullcontext)))


async def _kept(work: Awaitable[None]) -> bool:
    await work
    return True


async def offers_of(db: AsyncDatabase[Document], scope: UserScope, *, limit: int = 0) -> list[Offer]:
    """What waits for the person's answer, the latest said first; at most `limit`, 0 for all."""
    documents = await Encryption.of(db).read(
        MEMORY_HISTORY, lambda: db[MEMORY_HISTORY].find(scope.filter | OFFERED).limit(limit).to_list(), scope
    )
    characters = sum(len(str(each.get("content"))) for each in documents)
    found = await aside(characters, lambda: [offer for each in documents if (offer := _offer(each))])
    return sorted(found, key=lambda each: each.said_at or _LONG_AGO, reverse=True)


def is_offer(suggestion_id: str) -> bool:
    """Whether it is the id of an offer, and not of something that a call has taught."""
    return ObjectId.is_valid(suggestion_id)


async def decide_offer(people: People, scope: UserScope, offer_id: str, *, accept: bool) -> Offer:
    """Keep what a guest had as the person's value, or delete it; returns it as it was offered.

    The value that it replaces becomes a former one, and it keeps the source that it had.

    Raises:
        NotFoundError: nothing of that id is offered to this person.
        DriftError: it cannot be stored; it is deleted.
    """
    history = people.db[MEMORY_HISTORY]
    selector = scope.filter | OFFERED | {"_id": ObjectId(offer_id)}
    encryption = Encryption.of(people.db)
    document = await encryption.read_one(MEMORY_HISTORY, lambda: history.find_one(selector), scope)
    offer = _offer(document) if document else None
    if document is None or offer is None:
        raise NotFoundError(f"no suggestion {offer_id} waits", hint=f"lkmongo memory suggestions {scope.user_id}")
    refused: InvalidTextError | None = None
    if accept:
        try:
            await _store(people, scope, offer.kind, document)
        except InvalidTextError as error:
            refused = error
    await operations.write(lambda: history.delete_one(selector))
    if refused:
        raise DriftError(
            f"{offer.label} was not stored", why=refused.message, hint="the suggestion no longer waits"
        ) from refused
    return offer


async def _store(people: People, scope: UserScope, kind: Kind, document: Document) -> None:
    label, content = document["memory_type"], document["content"]
    if kind == "profile":
        await people.users.set_field(scope, label.removeprefix(FIELD), content)
        return
    if await people.memories.recall(scope, label) is None and await people.memories.count(scope) >= MAX_SLOTS:
        raise InvalidTextError(f"one person can have at most {MAX_SLOTS} memories")
    cipher = await Encryption.of(people.db).cipher(scope)
    for entry in document["offered"].get("former") or []:
        await operations.write(lambda e=entry: add_former(people.db[MEMORY_HISTORY], scope, label, e, cipher))  # type: ignore[misc]
    source, dates = source_of(document.get("source")), dates_of(document.get("dates"))
    await people.memories.remember(scope, label, content, source=source, dates=dates)
    await people.history.settle(scope, label)


def _offer(document: Document) -> Offer | None:
    offered, label, content = document.get("offered"), document.get("memory_type"), document.get("content")
    if not (isinstance(offered, dict) and isinstance(label, str) and isinstance(content, str)):
        return None
    kind: Kind = "profile" if offered.get("kind") == "profile" else "memory"
    why: Why = "instruction" if offered.get("why") == "instruction" else "conflict"
    told = Fact(label, content).told.content
    if told == WITHHELD:
        return None
    return Offer(str(document["_id"]), kind, label.removeprefix(FIELD), told, document.get("updated_at"), why)
