"""A merge seals what moves by the key of who stays, and destroys the other."""

from contextlib import nullcontext

import pytest

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import MoveGuest
from lkmongo.store.mongo.encryption import SEALED
from lkmongo.store.people.merge import merge
from lkmongo.store.people.offers import decide_offer, keep_aside, offers_of
from lkmongo.store.people.person import export
from tests.store.mongo.test_encryption import AT, ROBIN, WORDS, WREN, fill, raw


@pytest.mark.parametrize("atomic", [True, False])
async def test_everything_of_the_guest_is_read_by_the_logins_key(store, vault, atomic):
    await fill(store, ROBIN)
    await store.memories.remember(WREN, "food", "likes plums")  # the guest's is offered
    await store.sessions.save(SessionRecord("call", WREN, "room", SessionStatus.COMPLETE, AT, ended_at=AT))
    merged = await merge(store.db, ROBIN, WREN, atomic=atomic)
    assert merged.renamed == {"call": "call-merged"}
    assert await vault.cipher(ROBIN) is None

    stored = await raw(store)
    assert [word for word in WORDS.split() if word.encode() in stored.lower()] == []
    assert [await store.db[name].count_documents(ROBIN.filter) for name in SEALED] == [0] * len(SEALED)
    exported = "".join([part async for part in export(store.db, WREN)])
    assert [word for word in WORDS.split() if word not in exported] == []
    slots = {each.memory_type: each.content for each in await store.memories.slots(WREN)}
    assert slots == {"food": "likes plums", "pet": "a quokka next friday"}
    assert [each.content for each in await store.history.former(WREN)] == ["a quokka"]
    said = await store.sessions.turns(WREN, "call-merged")
    assert said[0].content == "the zeppelin is late"

    (offer,) = await offers_of(store.db, WREN)
    assert offer.content == "likes marzipan"
    await decide_offer(store, WREN, offer.id, accept=True)
    assert (await store.memories.recall(WREN, "food")).content == "likes marzipan"


async def test_an_offer_that_is_made_again_holds_each_former_value_once(store, vault):
    value = {"memory_type": "food", "content": "likes marzipan", "updated_at": AT}
    for _ in range(2):  # as by a merge that was killed before it deleted them
        former = [{"content": "likes plums", "valid_from": AT, "valid_to": AT}]
        await keep_aside(store.db, WREN, "guest-1", "memory", value, "conflict", former, None, nullcontext)
    (offered,) = [each async for each in store.db.memory_history.find(WREN.filter)]
    assert len(offered["offered"]["former"]) == 1


async def test_a_guest_who_is_identified_leaves_no_key(store, vault):
    guest = UserScope.guest("acme")
    await store.sessions.append(guest, "call", [Turn(0, "i-0", TurnKind.MESSAGE, AT, content="a heron")])
    assert await vault.cipher(guest)
    record = SessionRecord("call", ROBIN, "room", SessionStatus.ACTIVE, AT)
    assert await apply([MoveGuest(guest.tenant_id, guest.user_id)], Target(store, record, "me")) == 1
    assert [each.content for each in await store.sessions.turns(ROBIN, "call")] == ["a heron"]
    assert await vault.cipher(guest) is None
