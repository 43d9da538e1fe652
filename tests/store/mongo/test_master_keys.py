"""The settings say which master key wraps the keys of people, and what of them is missing."""

import base64
import json
import secrets

import pytest

from lkmongo.errors import SettingsError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.key_vault import KeyVault
from lkmongo.store.mongo.master_keys import make_key_file, master_keys
from lkmongo.store.open import Store, open_store
from tests.kms_server import kms

ROBIN = UserScope(tenant_id="acme", user_id="robin")
ARN = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def settings(home, **values):
    return Settings.load({"LKMONGO_HOME": str(home)} | {name.upper(): str(value) for name, value in values.items()})


def test_off_is_the_default(home):
    assert master_keys(settings(home)) is None


def test_a_local_key_is_a_file_that_only_its_owner_reads(home):
    local = settings(home, lkmongo_encryption="local")
    with pytest.raises(SettingsError) as error:
        master_keys(local)
    assert "lkmongo db encrypt" in error.value.hint
    path = make_key_file(local)
    assert path.stat().st_mode & 0o777 == 0o600
    keys = master_keys(local)
    assert (len(keys.providers), keys.wraps) == (1, next(iter(keys.providers)))
    with pytest.raises(SettingsError):
        make_key_file(local)  # which never replaces one
    path.chmod(0o640)
    with pytest.raises(SettingsError) as error:
        master_keys(local)
    assert "others may read it" in error.value.message


def test_the_first_line_wraps_and_all_unwrap(home):
    local = settings(home, lkmongo_encryption="local")
    path = make_key_file(local)
    before = master_keys(local)
    path.write_bytes(base64.b64encode(secrets.token_bytes(96)) + b"\n" + path.read_bytes())
    after = master_keys(local)
    assert len(after.providers) == 2
    assert after.wraps != before.wraps
    assert before.wraps in after.providers


@pytest.mark.parametrize("content", ["", "abc", base64.b64encode(b"x" * 95).decode(), "!!!!"])
def test_a_file_that_is_no_key_is_an_error_without_its_content(home, content):
    local = settings(home, lkmongo_encryption="local")
    make_key_file(local).write_text(content)
    with pytest.raises(SettingsError) as error:
        master_keys(local)
    assert not content or content not in error.value.message


@pytest.mark.parametrize(
    ("provider", "key", "master"),
    [
        ("aws", ARN, {"region": "eu-central-1", "key": ARN}),
        ("azure", "https://v.vault.azure.net/keys/k", {"keyVaultEndpoint": "v.vault.azure.net", "keyName": "k"}),
        (
            "azure",
            "https://v.vault.azure.net/keys/k/7",
            {"keyVaultEndpoint": "v.vault.azure.net", "keyName": "k", "keyVersion": "7"},
        ),
        (
            "gcp",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k",
            {"projectId": "p", "location": "l", "keyRing": "r", "keyName": "k"},
        ),
    ],
)
def test_a_key_in_a_kms_is_named_as_the_kms_names_it(home, provider, key, master):
    found = master_keys(settings(home, lkmongo_encryption=provider, lkmongo_kms_key=key))
    assert (found.wraps, found.key) == (provider, master)
    assert found.providers[provider] == {}  # what the machine has


def test_a_kmip_server_has_an_address_and_a_certificate(home):
    found = master_keys(
        settings(home, lkmongo_encryption="kmip", lkmongo_kms_endpoint="kms:5696", lkmongo_kms_certificate="/c.pem")
    )
    assert found.providers["kmip"] == {"endpoint": "kms:5696"}
    assert found.tls["kmip"] == {"tlsCertificateKeyFile": "/c.pem"}
    with pytest.raises(SettingsError) as error:
        master_keys(settings(home, lkmongo_encryption="kmip"))
    assert "LKMONGO_KMS_ENDPOINT" in error.value.message


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
@pytest.mark.parametrize("key", ["", "my-key"])
def test_a_key_that_is_missing_or_of_another_kms_is_an_error(home, provider, key):
    with pytest.raises(SettingsError) as error:
        master_keys(settings(home, lkmongo_encryption=provider, lkmongo_kms_key=key))
    assert "LKMONGO_KMS_KEY" in error.value.message
    assert "set it to" in error.value.hint


def test_a_service_account_of_google_is_taken_as_it_is_handed_out(home, tmp_path):
    path = tmp_path / "account.json"
    pem = "-----BEGIN PRIVATE KEY-----\nQUJD\nREVG\n-----END PRIVATE KEY-----\n"
    path.write_text(json.dumps({"client_email": "a@b", "private_key": pem, "type": "service_account"}))
    found = master_keys(
        settings(
            home,
            lkmongo_encryption="gcp",
            lkmongo_kms_key="projects/p/locations/l/keyRings/r/cryptoKeys/k",
            lkmongo_kms_credentials=path,
        )
    )
    assert found.providers["gcp"] == {"email": "a@b", "privateKey": "QUJDREVG"}


def test_mongodb_cannot_embed_what_it_cannot_read(home):
    with pytest.raises(SettingsError) as error:
        master_keys(
            settings(
                home,
                lkmongo_encryption="local",
                lkmongo_embeddings="atlas",
                mongodb_uri="mongodb+srv://a.b.mongodb.net",
            )
        )
    assert "LKMONGO_EMBEDDINGS" in error.value.message


async def test_a_store_is_opened_with_what_the_settings_say(home, mongodb_uri, database_name):
    values = {"mongodb_uri": mongodb_uri, "mongodb_db": database_name, "lkmongo_encryption": "local"}
    wanted = settings(home, **values)
    make_key_file(wanted)
    async with open_store(wanted) as store:
        await store.memories.remember(ROBIN, "pet", "a heron")
        raw = await store.db.memories.find_one()
        assert raw["content"].subtype == 0x80
        await store.db.client.drop_database(database_name)


async def test_a_key_in_aws_kms_wraps_and_unwraps(store, tmp_path):
    credentials = tmp_path / "aws.json"
    credentials.write_text(json.dumps({"accessKeyId": "AKIATEST", "secretAccessKey": "secret"}))
    with kms(tmp_path) as (endpoint, pem, calls):
        master = master_keys(
            settings(
                tmp_path,
                lkmongo_encryption="aws",
                lkmongo_kms_key=ARN,
                lkmongo_kms_credentials=credentials,
                lkmongo_kms_endpoint=endpoint,
                lkmongo_kms_ca=pem,
            )
        )
        vault = KeyVault(store.db.client, f"{store.db.name}_aws", master)
        Encryption(vault).use(store.db)
        await Store.of(store.db).memories.remember(ROBIN, "pet", "a heron")
        vault.forget(ROBIN)
        assert [each.content for each in await Store.of(store.db).memories.slots(ROBIN)] == ["a heron"]
        assert {action for action, _ in calls} == {"Encrypt", "Decrypt"}
        assert {key for _, key in calls if key} == {ARN}
        await vault.close()
    Encryption().use(store.db)
    await store.db.client.drop_database(f"{store.db.name}_aws")
