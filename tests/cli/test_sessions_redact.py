"""`lkmongo sessions redact` as operators run it: it asks, counts by kind, and never prints what it found."""

from __future__ import annotations

import json

import pytest

from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from tests.people import anywhere
from tests.store.test_redact_stored import ROBIN, TOLD, old


@pytest.fixture
def stored(shared_home, database_name):
    """Write what an earlier release stored, if asked to, and say where something of it is."""

    async def stored(*, write: bool = False) -> list[str]:
        with EmbeddedMongod(shared_home) as mongod:
            async with create_client(mongod.uri) as client:
                store = Store.of(client[database_name])
                if write:
                    await old(store, ROBIN)
                return await anywhere(store, *TOLD)

    return stored


async def test_it_counts_asks_redacts_and_shows_the_counts(run, stored):
    assert await stored(write=True)
    would = run("sessions", "redact", "--user", "robin", "--dry-run", "--output", "json")
    assert would.code == 0, would.stderr
    fields = json.loads(would.stdout)
    assert (fields["dry_run"], fields["sessions"]) == (True, 1)
    assert set(fields["redacted"]) == {"card", "secret", "national_id"}
    refused = run("sessions", "redact")
    assert refused.code == 2
    assert "add --yes" in refused.stderr
    assert await stored()
    done = run("sessions", "redact", "--yes")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("Redacted ")
    assert await stored() == []
    shown = run("sessions", "show", "s-1", "--output", "json")
    assert json.loads(shown.stdout)["redacted"] == {"card": 3, "secret": 2, "national_id": 1}
    assert "3 card, 1 national id, 2 secret" in run("sessions", "show", "s-1").stdout
    printed = "".join(each.stdout + each.stderr for each in (would, refused, done, shown))
    assert not [told for told in TOLD if told in printed]
    assert run("sessions", "redact", "--yes").stdout == "Nothing to redact\n"


def test_a_policy_that_cannot_be_read_is_an_error_before_anything_is_done(run, tmp_path):
    policies = tmp_path / "tenants.yaml"
    policies.write_text("default: {redaction: {fone: mask}}")
    result = run("sessions", "redact", "--yes", env={"LKMONGO_TENANTS": str(policies)})
    assert result.code == 2
    assert "there is no kind fone" in result.stderr


async def test_somebody_unknown_is_not_found(run, stored):
    await stored()
    assert run("sessions", "redact", "--user", "nobody", "--yes").code == 5
