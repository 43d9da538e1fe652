"""Adding documents to a real MongoDB: repeatable, exact in what it replaces and removes, and found at once."""

from __future__ import annotations

import asyncio

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from lkmongo.embed.base import OverloadedError
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import AuthenticationError, DatabaseError
from lkmongo.model import Passage, TenantScope
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.knowledge.ingest import (
    Document,
    IngestResult,
    Library,
    add_documents,
    find_documents,
    read_documents,
    totals,
)
from lkmongo.store.knowledge.knowledge import ORIGIN, Knowledge, SourceTakenError
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import SeedData

SHOP, HOTEL = TenantScope("default"), TenantScope("hotel")


class Watched(LocalEmbedder):
    """The local embedder, with a record of what it embedded, which can fail after a number of texts."""

    def __init__(self, model=LocalEmbedder.model, fail_after=None, error=None):
        self.model = model
        self.embedded = []
        self.fail_after = fail_after
        self.error = error or OverloadedError("Voyage answered 503: it is overloaded or down", hint="wait")

    async def embed_many(self, texts, *, documents=None, on_wait=None):
        for start in range(0, len(texts), 2):
            if self.fail_after is not None and len(self.embedded) >= self.fail_after:
                raise self.error
            batch = texts[start : start + 2]
            self.embedded += batch
            yield await self.embed(batch, kind="document")


def document(source, *contents, root=None):
    passages = [Passage(source, n, f"Title {content[:9]}", content) for n, content in enumerate(contents)]
    return Document(source, tuple(passages), root)


async def add(
    store, *documents, tenant=SHOP, embedder=None, folders=(), present=(), links=(), dry_run=False
) -> IngestResult:
    library = Library(list(documents), list(folders), {*present, *(d.source for d in documents)}, list(links))
    return await add_documents(
        store.db,
        tenant,
        library,
        embedder or Watched(),
        dry_run=dry_run,
        on_progress=lambda *_: None,
        on_wait=lambda _: None,
    )


async def stored(store, tenant=SHOP):
    found = store.db.knowledge.find(tenant.filter).sort([("source", 1), ("chunk", 1)])
    return {(doc["source"], doc["chunk"]): doc async for doc in found}


async def contents(store, tenant=SHOP):
    return {key: doc["content"] for key, doc in (await stored(store, tenant)).items()}


def counted(added):
    return {row.source: (row.added, row.replaced, row.unchanged, row.removed) for row in added.rows}


# ---------------------------------------------------------------- adding and adding again


async def test_what_is_added_is_whole_and_is_found(store):
    embedder = Watched()
    added = await add(
        store, document("a.md", "Dogs are welcome.", "Cats are not."), document("b.md", "We open at nine.")
    )
    assert counted(added) == {"a.md": (2, 0, 0, 0), "b.md": (1, 0, 0, 0)}
    assert (added.failure, added.without_vector) == (None, 0)
    for (source, chunk), doc in (await stored(store)).items():
        assert set(doc) == {
            "_id", "tenant_id", "source", "chunk", "title", "content", "content_hash", "embedding", "embedding_model",
            "origin", "root", "updated_at", "schema_version",
        }  # fmt: skip
        assert doc["origin"] == ORIGIN
        assert doc["embedding_model"] == embedder.model
        text = Passage(source, chunk, doc["title"], doc["content"]).embedded_text
        expected = (await embedder.embed([text], kind="document"))[0]
        assert from_bson(doc["embedding"], 256) == pytest.approx(expected)
    result = await ExactStrategy(store.db, embedder).knowledge(SHOP, "is my dog allowed")
    assert result.hits[0].item.content == "Dogs are welcome."


async def test_adding_again_changes_and_embeds_nothing(store):
    documents = [document("a.md", "One.", "Two."), document("b.md", "Three.")]
    await add(store, *documents)
    before, embedder = await stored(store), Watched()
    added = await add(store, *documents, embedder=embedder)
    assert counted(added) == {"a.md": (0, 0, 2, 0), "b.md": (0, 0, 1, 0)}
    assert embedder.embedded == []
    assert await stored(store) == before


async def test_documents_are_written_while_those_before_them_get_their_vectors(store, monkeypatch):
    monkeypatch.setattr("lkmongo.store.knowledge.ingest._PORTION", 2)
    may_put, begun = asyncio.Event(), asyncio.Event()

    class Slow(Watched):
        async def embed_many(self, texts, *, documents=None, on_wait=None):
            begun.set()
            await may_put.wait()  # until the second document is written
            async for batch in super().embed_many(texts, on_wait=on_wait):
                yield batch

    put = Knowledge.put

    async def told(self, tenant, document, model, **named):
        if document.source == "b.md":
            await begun.wait()
        counts = await put(self, tenant, document, model, **named)
        if document.source == "b.md":
            may_put.set()
        return counts

    monkeypatch.setattr(Knowledge, "put", told)
    embedder = Slow()
    added = await add(store, document("a.md", "1", "2"), document("b.md", "3"), embedder=embedder)
    assert (added.failure, added.without_vector, len(embedder.embedded)) == (None, 0, 3)
    assert all("embedding" in doc for doc in (await stored(store)).values())


async def test_passages_that_another_run_has_written_meanwhile_are_not_refused(store, monkeypatch):
    find = Knowledge._find

    async def late(self, selector, shown):
        found = await find(self, selector, shown)
        if "has_vector" in shown and not found:
            monkeypatch.setattr(Knowledge, "_find", find)
            await add(store, document("a.md", "One.", "Two."))
        return found

    monkeypatch.setattr(Knowledge, "_find", late)
    added = await add(store, document("a.md", "One.", "Zwei.", "Three."))
    assert (added.failure, added.without_vector) == (None, 0)
    assert await contents(store) == {("a.md", 0): "One.", ("a.md", 1): "Zwei.", ("a.md", 2): "Three."}


async def test_only_what_changed_is_written_and_embedded(store):
    await add(store, document("a.md", "One.", "Two.", "Three."))
    before, embedder = await stored(store), Watched()
    added = await add(store, document("a.md", "One.", "Two, anew.", "Three."), embedder=embedder)
    assert counted(added) == {"a.md": (0, 1, 2, 0)}
    assert embedder.embedded == ["Title Two, anew\nTwo, anew."]
    after = await stored(store)
    assert after["a.md", 1]["content"] == "Two, anew."
    assert after["a.md", 1]["updated_at"] > before["a.md", 1]["updated_at"]
    assert after["a.md", 0] == before["a.md", 0]


async def test_a_changed_title_is_a_change(store):
    await add(store, Document("a.md", (Passage("a.md", 0, "Old", "Same."),)))
    added = await add(store, Document("a.md", (Passage("a.md", 0, "New", "Same."),)))
    assert counted(added) == {"a.md": (0, 1, 0, 0)}
    assert (await stored(store))["a.md", 0]["title"] == "New"


async def test_passages_that_vanished_are_removed(store):
    await add(store, document("a.md", "One.", "Two.", "Three."), document("b.md", "Four."))
    added = await add(store, document("a.md", "One."))
    assert counted(added) == {"a.md": (0, 0, 1, 2)}
    assert await contents(store) == {("a.md", 0): "One.", ("b.md", 0): "Four."}


async def test_a_passage_that_only_moved_keeps_its_vector(store):
    await add(store, document("a.md", "One.", "Two.", "Three."))
    before, embedder = await stored(store), Watched()
    added = await add(store, document("a.md", "Zero.", "One.", "Two.", "Three."), embedder=embedder)
    assert counted(added) == {"a.md": (1, 3, 0, 0)}
    assert embedder.embedded == ["Title Zero.\nZero."]
    after = await stored(store)
    assert [after["a.md", n]["embedding"] for n in (1, 2, 3)] == [before["a.md", n]["embedding"] for n in (0, 1, 2)]
    assert {doc["embedding_model"] for doc in after.values()} == {embedder.model}


async def test_another_model_embeds_everything_anew(store):
    await add(store, document("a.md", "One.", "Two."))
    embedder = Watched(model="another@256")
    added = await add(store, document("a.md", "Two.", "One."), embedder=embedder)
    assert counted(added) == {"a.md": (0, 2, 0, 0)}
    assert len(embedder.embedded) == 2, "a vector of another model does not move with its passage"
    added = await add(store, document("a.md", "Two.", "One."), embedder=Watched())
    assert counted(added) == {"a.md": (0, 0, 2, 0)}
    assert {doc["embedding_model"] for doc in (await stored(store)).values()} == {Watched().model}


async def test_a_dry_run_counts_the_same_and_changes_nothing(store):
    await add(store, document("a.md", "One.", "Two.", root="/docs"), document("gone.md", "Three.", root="/docs"))
    before, embedder = await stored(store), Watched()
    change = document("a.md", "One, anew.", "Two.", "Three.", root="/docs")
    dry = await add(store, change, embedder=embedder, folders=["/docs"], dry_run=True)
    assert await stored(store) == before
    assert embedder.embedded == []
    assert counted(dry) == {"a.md": (1, 1, 1, 0), "gone.md": (0, 0, 0, 1)}
    assert counted(await add(store, change, folders=["/docs"])) == counted(dry)
    assert totals(dry.rows).added == 1


async def test_two_at_a_time_write_no_passage_twice(store):
    documents = [document(f"{n}.md", *(f"Text {n} {m}." for m in range(6))) for n in range(6)]
    await asyncio.gather(*(add(store, *documents) for _ in range(3)), return_exceptions=True)
    await add(store, *documents)
    assert len(await stored(store)) == 36


async def test_no_other_tenant_is_touched(store):
    await add(store, document("a.md", "Shop.", "More."), tenant=SHOP)
    await add(store, document("a.md", "Hotel."), tenant=HOTEL)
    before = await stored(store, HOTEL)
    await add(store, document("a.md", "Shop, anew."), tenant=SHOP, folders=["/docs"])
    await Knowledge(store.db).remove(SHOP, ["a.md"])
    assert await stored(store, SHOP) == {}
    assert await stored(store, HOTEL) == before


async def test_every_command_on_passages_names_the_tenant(store, mongodb_uri):
    sent = []

    class Commands(CommandListener):
        def started(self, event):
            sent.append((event.command_name, event.command))

        def succeeded(self, event):
            pass

        def failed(self, event):
            pass

    async with AsyncMongoClient(mongodb_uri, event_listeners=[Commands()], tz_aware=True) as client:
        knowledge = Knowledge(client[store.db.name])
        await knowledge.check_free(SHOP, ["a.md"])
        for contents in (["One.", "Two."], ["Two."], ["Two, anew."]):
            await knowledge.put(SHOP, document("a.md", *contents, root="/docs"), "m")
        await knowledge.vanished(SHOP, "/docs", [])
        await knowledge.count_without_vector(SHOP, ["a.md"], "m")
        await knowledge.embed(SHOP, ["a.md"], Watched())
        await knowledge.sources(SHOP, "m")
        await knowledge.remove(SHOP, ["a.md"])
    filters = []
    for name, command in sent:
        if name == "find":
            filters.append(command["filter"])
        elif name == "aggregate":
            filters.append(command["pipeline"][0]["$match"])
        elif name in {"update", "delete"}:
            filters += [each["q"] for each in command["updates" if name == "update" else "deletes"]]
    assert len(filters) > 10
    assert all(each.get("tenant_id") == "default" for each in filters), filters


# ---------------------------------------------------------------- folders


async def test_what_vanished_from_a_folder_is_removed_when_it_is_added_again(store, tmp_path, reader):
    async def add_folder(folder):
        library = await read_documents(find_documents([folder]), reader)
        return counted(await add(store, *library.documents, folders=library.folders, present=library.present))

    docs, other = tmp_path / "docs", tmp_path / "other"
    for folder in (docs, other):
        folder.mkdir()
    (docs / "a.md").write_text("A.")
    (docs / "b.md").write_text("B.")
    (other / "c.md").write_text("C.")
    await add_folder(docs)
    await add_folder(other)
    await add(store, document("from-stdin.md", "D."))
    (docs / "b.md").unlink()
    assert await add_folder(docs) == {"a.md": (0, 0, 1, 0), "b.md": (0, 0, 0, 1)}
    assert set(await contents(store)) == {("a.md", 0), ("c.md", 0), ("from-stdin.md", 0)}


async def test_a_file_that_cannot_be_read_any_more_keeps_its_passages(store, tmp_path, reader):
    (tmp_path / "a.md").write_text("A.")
    (tmp_path / "b.md").write_text("B.")
    for broken in (None, b"\xff\xfe\xff"):
        if broken:
            (tmp_path / "b.md").write_bytes(broken)
        library = await read_documents(find_documents([tmp_path]), reader)
        await add(store, *library.documents, folders=library.folders, present=library.present)
    assert await contents(store) == {("a.md", 0): "A.", ("b.md", 0): "B."}
    assert len(library.problems) == 1
    assert library.problems[0].startswith(f"{tmp_path}/b.md: is not UTF-8")


async def test_a_file_of_a_folder_that_lost_its_text_loses_its_passages(store, tmp_path, reader):
    (tmp_path / "a.md").write_text("A.")
    (tmp_path / "b.md").write_text("B.")
    (tmp_path / "never.md").write_text("")
    for text in ("B.", "# A heading alone"):
        (tmp_path / "b.md").write_text(text)
        library = await read_documents(find_documents([tmp_path]), reader)
        added = await add(store, *library.documents, folders=library.folders, present=library.present)
    assert counted(added) == {"a.md": (0, 0, 1, 0), "b.md": (0, 0, 0, 1)}
    assert sorted(library.notes) == [f"{tmp_path}/b.md: holds no text", f"{tmp_path}/never.md: is empty"]
    assert library.problems == []


async def test_what_was_added_through_a_link_stays_until_the_link_has_gone(store, tmp_path, reader):
    docs, elsewhere = tmp_path / "docs", tmp_path / "elsewhere"
    for folder in (docs, elsewhere):
        folder.mkdir()
    (docs / "a.md").write_text("A.")
    (elsewhere / "b.md").write_text("B.")
    (docs / "b.md").symlink_to(elsewhere / "b.md")
    (docs / "more").symlink_to(elsewhere)

    async def add_folder(*, follow_links=False):
        library = await read_documents(find_documents([docs], follow_links=follow_links), reader)
        folders, present, links = library.folders, library.present, library.links
        await add(store, *library.documents, folders=folders, present=present, links=links)
        return {source for source, _ in await contents(store)}

    assert await add_folder(follow_links=True) == {"a.md", "b.md", "more/b.md"}
    assert await add_folder() == {"a.md", "b.md", "more/b.md"}
    (docs / "more").unlink()
    assert await add_folder() == {"a.md", "b.md"}


async def test_a_source_that_came_from_another_folder_says_so_and_stays_with_the_new_one(store):
    await add(store, document("a.md", "A.", root="/one"))
    added = await add(store, document("a.md", "A.", root="/two"), folders=["/two"])
    assert [row.moved_from for row in added.rows] == ["/one"]
    added = await add(store, document("b.md", "B.", root="/one"), folders=["/one"])
    assert set(await contents(store)) == {("a.md", 0), ("b.md", 0)}, (
        "a.md has gone from /one, and is not /one's any more"
    )
    assert [row.moved_from for row in added.rows] == [None]


# ---------------------------------------------------------------- what others wrote


async def seeded(store):
    passages = [(SHOP, Passage("returns.md", 0, "Returns", "45 days.")), (SHOP, Passage("b.md", 0, "B", "B."))]
    await seed(store.db, SeedData(passages=tuple(passages)), LocalEmbedder())


async def test_a_source_of_the_seed_is_not_written_over(store):
    await seeded(store)
    before = await stored(store)
    with pytest.raises(SourceTakenError, match=r"tenant default has returns\.md already") as caught:
        await add(store, document("new.md", "New."), document("returns.md", "30 days.", "No gifts."))
    assert "lkmongo knowledge remove returns.md" in caught.value.hint
    assert await stored(store) == before, "nothing was added, new.md neither"
    await add(store, document("returns.md", "Out by eleven."), tenant=HOTEL)


async def test_a_source_that_nobody_signed_is_not_written_over_either(store):
    await store.db.knowledge.insert_one(SHOP.filter | {"source": "a.md", "chunk": 3, "title": "A", "content": "A."})
    with pytest.raises(SourceTakenError):
        await add(store, document("a.md", "Mine."))


async def test_a_seed_that_comes_between_the_question_and_the_write_is_not_written_over(store):
    await seeded(store)
    with pytest.raises(DatabaseError):
        await Knowledge(store.db).put(SHOP, document("returns.md", "30 days."), "m")
    assert (await contents(store))["returns.md", 0] == "45 days."


async def test_the_seed_leaves_alone_what_was_added(store):
    await add(store, document("returns.md", "30 days.", "No gifts."))
    await seeded(store)
    assert (await contents(store))["returns.md", 0] == "30 days."
    assert (await contents(store))["returns.md", 1] == "No gifts."


async def test_removed_sources_can_be_added(store):
    await seeded(store)
    assert await Knowledge(store.db).remove(SHOP, ["returns.md"]) == 1
    await add(store, document("returns.md", "30 days."))
    assert await contents(store) == {("returns.md", 0): "30 days.", ("b.md", 0): "B."}


async def test_a_folder_removes_nothing_that_a_seed_wrote(store):
    await seeded(store)
    await store.db.knowledge.update_many({}, {"$set": {"root": "/docs"}})
    await add(store, document("a.md", "A.", root="/docs"), folders=["/docs"])
    assert len(await contents(store)) == 3


# ---------------------------------------------------------------- when vectors fail


@pytest.mark.parametrize("error", [None, AuthenticationError("Voyage refused the API key")])
async def test_without_an_embedder_passages_are_stored_and_found_by_their_words(store, error):
    embedder = Watched(fail_after=2, error=error)
    documents = [
        document("a.md", "Dogs are welcome.", "Cats are not."),
        document("b.md", "The pool is open.", "Towels lie ready."),
    ]
    added = await add(store, *documents, embedder=embedder)
    assert counted(added) == {"a.md": (2, 0, 0, 0), "b.md": (2, 0, 0, 0)}
    assert (added.failure, added.without_vector) == (embedder.error, 2)
    result = await ExactStrategy(store.db, LocalEmbedder()).knowledge(SHOP, "what about towels")
    assert [(found.item.content, found.vector_rank) for found in result.hits][:1] == [("Towels lie ready.", None)]
    # Again: what is missing is made, and nothing else.
    embedder = Watched()
    added = await add(store, *documents, embedder=embedder)
    assert (added.failure, added.without_vector) == (None, 0)
    assert embedder.embedded == ["Title The pool \nThe pool is open.", "Title Towels li\nTowels lie ready."]


async def test_a_passage_that_changed_is_not_found_by_what_it_said(store):
    await add(store, document("a.md", "Dogs are welcome."))
    await add(store, document("a.md", "The pool is open."), embedder=Watched(fail_after=0))
    (doc,) = (await stored(store)).values()
    assert "embedding" not in doc
    assert "embedding_model" not in doc


async def test_a_vector_of_what_a_passage_no_longer_says_is_not_stored(store):
    await add(store, document("a.md", "Dogs are welcome."), embedder=Watched(fail_after=0))

    class Meanwhile(Watched):
        async def embed_many(self, texts, *, documents=None, on_wait=None):
            vectors = await self.embed(texts, kind="document")
            await Knowledge(store.db).put(SHOP, document("a.md", "The pool is open."), self.model)
            yield vectors

    await Knowledge(store.db).embed(SHOP, ["a.md"], Meanwhile())
    (doc,) = (await stored(store)).values()
    assert (doc["content"], "embedding" in doc) == ("The pool is open.", False)


# ---------------------------------------------------------------- embedded with their document


class Together(Watched):
    """Notes the documents whose passages it was asked to embed together."""

    together = True

    def __init__(self, **options):
        super().__init__(**options)
        self.documents = []

    async def embed_many(self, texts, *, documents=None, on_wait=None):
        self.documents += documents
        async for vectors in super().embed_many(texts):
            yield vectors


async def test_passages_are_embedded_with_their_document_and_anew_when_one_changes(store):
    first = document("a.md", "One.", "Two.", "Three."), document("b.md", "Four.")
    assert (await add(store, *first, embedder=(embedder := Together()))).failure is None
    assert (embedder.documents, len(embedder.embedded)) == ([3, 1], 4)
    await add(store, *first, embedder=(again := Together()))
    assert again.embedded == []
    changed = document("a.md", "One.", "Two, changed.", "Three."), first[1]
    added = await add(store, *changed, embedder=(embedder := Together()))
    assert counted(added) == {"a.md": (0, 1, 2, 0), "b.md": (0, 0, 1, 0)}
    assert (embedder.documents, len(embedder.embedded)) == ([3], 3)
    shorter = document("a.md", "One.", "Two, changed."), first[1]
    await add(store, *shorter, embedder=(embedder := Together()))
    assert embedder.documents == [2], "a passage that is gone is missing in the others' vectors"
    assert {doc["embedding_model"] for doc in (await stored(store)).values()} == {Together.model}


async def test_a_document_whose_embedding_was_interrupted_is_embedded_whole(store):
    one = document("a.md", "One.", "Two.", "Three.", "Four."), document("b.md", "Five.")
    added = await add(store, *one, embedder=Together(fail_after=2))
    assert added.without_vector == 3
    added = await add(store, *one, embedder=(embedder := Together()))
    assert (added.failure, embedder.documents, len(embedder.embedded)) == (None, [4, 1], 5)


async def test_sample_data_is_embedded_with_its_document_too(store):
    def data(*contents):
        return SeedData((), (), tuple((SHOP, passage) for passage in document("s.md", *contents).passages))

    await seed(store.db, data("One.", "Two."), embedder := Together())
    assert embedder.documents == [2]
    counts = await seed(store.db, data("One.", "Two."), embedder := Together())
    assert (embedder.embedded, counts.knowledge.unchanged) == ([], 2)
    await seed(store.db, data("One.", "Two, changed."), embedder := Together())
    assert embedder.documents == [2]
    await seed(store.db, data("One."), embedder := Together())
    assert embedder.documents == [1]


# ---------------------------------------------------------------- listing


async def test_sources_are_listed_with_what_they_lack(store):
    await seeded(store)
    await add(store, document("c.md", "One.", "Two.", "Three.", root="/docs"), embedder=Watched(fail_after=1))
    await add(store, document("other.md", "Elsewhere."), tenant=HOTEL)
    listed = await Knowledge(store.db).sources(SHOP, LocalEmbedder.model)
    assert [(s.source, s.passages, s.embedded, s.origin, s.root) for s in listed] == [
        ("b.md", 1, 1, "seed", None),
        ("c.md", 3, 2, "knowledge", "/docs"),
        ("returns.md", 1, 1, "seed", None),
    ]
    assert all(source.updated_at for source in listed)
    assert [source.embedded for source in await Knowledge(store.db).sources(SHOP, "another@256")] == [0, 0, 0]


async def test_a_large_document_is_added_in_batches(store):
    long = document("a.md", *(f"Passage {n}." for n in range(1_203)))
    told = []
    await Knowledge(store.db).put(SHOP, long, "m")
    made = await Knowledge(store.db).embed(
        SHOP, ["a.md"], LocalEmbedder(), lambda done, total: told.append((done, total))
    )
    assert made == 1_203
    assert told[-1] == (1_203, 1_203)
    assert len(told) > 2
    assert await Knowledge(store.db).count_without_vector(SHOP, ["a.md"], LocalEmbedder.model) == 0
