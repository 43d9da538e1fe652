"""Settings: typed, with their source, never over the environment, and wrong ones named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.dotenv_files import ignored_text, is_taken, load_dotenv_files
from lkmongo.errors import SettingsError
from lkmongo.settings import Settings

SECRET = "s3cret-do-not-show"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("environment", "accepted"),
    [
        ({"LKMONGO_EMBEDDINGS": "foo"}, "LKMONGO_EMBEDDINGS must be voyage, openai, local or atlas"),
        ({"MONGODB_URI": "nonsense"}, "MONGODB_URI must begin with mongodb:// or mongodb+srv://"),
        ({"MONGODB_URI": "https://example.com"}, "MONGODB_URI must begin with mongodb:// or mongodb+srv://"),
        ({"LKMONGO_EMBEDDING_DIMENSIONS": "many"}, "LKMONGO_EMBEDDING_DIMENSIONS must be a whole number"),
        ({"LKMONGO_EMBEDDING_DIMENSIONS": "0"}, "LKMONGO_EMBEDDING_DIMENSIONS is not accepted"),
        ({"MONGODB_DB": "a b"}, "MONGODB_DB has characters"),
        ({"LKMONGO_AGENT": "agent.py"}, "LKMONGO_AGENT must be package.module:Class"),
        ({"LIVEKIT_URL": "example.com"}, "LIVEKIT_URL must begin with ws://"),
        ({"LKMONGO_EMBEDDING_BASE_URL": "http://me:secret@localhost/v1"}, "without user, password and parameters"),
        ({"LKMONGO_EMBEDDING_BASE_URL": "https://example.com/v1?key=secret"}, "goes into LKMONGO_EMBEDDING_API_KEY"),
        ({"LKMONGO_EMBEDDING_QUERY_PREFIX": "x" * 301}, "LKMONGO_EMBEDDING_QUERY_PREFIX must have at most 300"),
        ({"LKMONGO_LLM_BASE_URL": "localhost:11434"}, "LKMONGO_LLM_BASE_URL must begin with http://"),
        ({"LKMONGO_WEBHOOK_URL": "http://example.com/hook"}, "LKMONGO_WEBHOOK_URL must begin with https://"),
        ({"LKMONGO_WEBHOOK_URL": "http://localhost.example.com"}, "or with http:// for a receiver on localhost"),
        ({"LKMONGO_WEBHOOK_URL": "http://localhost:1@example.com"}, "or with http:// for a receiver on localhost"),
        ({"LKMONGO_WEBHOOK_SECRET": "whsec_dG9vIHNob3J0"}, "LKMONGO_WEBHOOK_SECRET must be whsec_ and 24 to 64 bytes"),
        (
            {"LKMONGO_WEBHOOK_SECRET": "whsec_no base64 at all, and long enough for it"},
            "bytes in base64: echo whsec_$(",
        ),
        ({"LKMONGO_WEBHOOK_SECRET": WEBHOOK_SECRET.removeprefix("whsec_")}, "LKMONGO_WEBHOOK_SECRET must be whsec_"),
        ({"LKMONGO_WEB_NAME": "x" * 61}, "LKMONGO_WEB_NAME must be up to 60 printable characters"),
        ({"LKMONGO_WEB_NAME": "a\u202eb"}, "LKMONGO_WEB_NAME must be up to 60 printable characters"),
        ({"LKMONGO_WEB_GREETING": "x" * 201}, "LKMONGO_WEB_GREETING must be up to 200 printable characters"),
        ({"LKMONGO_WEB_COLOR": "green"}, "LKMONGO_WEB_COLOR must be a color such as #00684a"),
        ({"LKMONGO_WEB_COLOR": "#0a0"}, "LKMONGO_WEB_COLOR must be a color such as #00684a"),
        ({"LKMONGO_WEB_COLOR": "#00684a;}"}, "LKMONGO_WEB_COLOR must be a color such as #00684a"),
        ({"LKMONGO_WEB_LOGO": "logo.gif"}, "LKMONGO_WEB_LOGO must name a .svg, .png or .webp file"),
        ({"LKMONGO_WEB_EXAMPLES": "a||b"}, "LKMONGO_WEB_EXAMPLES must be up to 4 sentences"),
        ({"LKMONGO_WEB_EXAMPLES": "a|b|c|d|e"}, "LKMONGO_WEB_EXAMPLES must be up to 4 sentences"),
        ({"LKMONGO_DEBUG": "perhaps"}, "LKMONGO_DEBUG must be on or off"),
        ({"LKMONGO_ENDPOINTING": "0.5"}, "LKMONGO_ENDPOINTING must be two numbers of seconds with a comma between"),
        ({"LKMONGO_ENDPOINTING": "soon,late"}, "LKMONGO_ENDPOINTING must be two numbers of seconds"),
        ({"LKMONGO_ENDPOINTING": "1,2,3"}, "LKMONGO_ENDPOINTING must be two numbers of seconds"),
        ({"LKMONGO_ENDPOINTING": "2,1"}, "LKMONGO_ENDPOINTING must be the shorter delay, then the longer one"),
        ({"LKMONGO_ENDPOINTING": "-1,1"}, "LKMONGO_ENDPOINTING must be the shorter delay, then the longer one"),
        ({"LKMONGO_ENDPOINTING": "nan,1"}, "LKMONGO_ENDPOINTING must be the shorter delay, then the longer one"),
        (
            {"LKMONGO_ENDPOINTING": "0.3,60"},
            "LKMONGO_ENDPOINTING must be the shorter delay, then the longer one, from 0 to 10",
        ),
        ({"LKMONGO_PHONE_REGION": "Germany"}, "LKMONGO_PHONE_REGION must be the two letters of a country"),
        ({"LKMONGO_PHONE_RECYCLED_AFTER": "23h"}, "LKMONGO_PHONE_RECYCLED_AFTER must be a day or more"),
        ({"LKMONGO_PHONE_RECYCLED_AFTER": "never"}, "LKMONGO_PHONE_RECYCLED_AFTER must be a duration such as 90d"),
        ({"LKMONGO_OUTPUT": "xml"}, "LKMONGO_OUTPUT must be table, plain, json or jsonl"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(environment, accepted):
    with pytest.raises(SettingsError) as caught:
        Settings.load(environment)
    assert accepted in caught.value.message
    assert caught.value.exit_code == 2


def test_the_source_of_a_wrong_value_is_named():
    with pytest.raises(SettingsError) as caught:
        Settings.load({"LKMONGO_EMBEDDINGS": "foo"}, {"LKMONGO_EMBEDDINGS": ".env.local"})
    assert ".env.local" in caught.value.why


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40).map(lambda s: f"@{s}"))
def test_no_error_shows_a_wrong_uri(value):
    with pytest.raises(SettingsError) as caught:
        Settings.load({"MONGODB_URI": value})
    assert value not in f"{caught.value.message} {caught.value.why} {caught.value.hint}"


def test_secrets_do_not_print():
    settings = Settings.load(
        {
            "MONGODB_URI": f"mongodb://app:{SECRET}@localhost",
            "VOYAGE_API_KEY": SECRET,
            "LIVEKIT_API_SECRET": SECRET,
            "LKMONGO_LLM_API_KEY": SECRET,
            "LIVEKIT_INFERENCE_API_SECRET": SECRET,
            "LKMONGO_WEBHOOK_URL": f"https://example.com/{SECRET}",
            "LKMONGO_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }
    )
    assert WEBHOOK_SECRET not in f"{settings!r} {settings} {settings.model_dump()}"
    assert WEBHOOK_SECRET in settings.secrets
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()}"
    assert SECRET in settings.secrets


def test_dotenv_files_fill_in_and_never_override(tmp_path):
    (tmp_path / ".env.local").write_text("MONGODB_DB=local\nVOYAGE_API_KEY='a # b'\nLKMONGO_HOME=\n")
    (tmp_path / ".env").write_text("MONGODB_DB=shared\nLKMONGO_HOME=/data\nLKMONGO_LLM=$HOME/x\n")
    environment = {"LKMONGO_OUTPUT": "json", "VOYAGE_API_KEY": ""}
    sources, ignored = load_dotenv_files(tmp_path, environment)
    assert ignored == {}
    assert environment == {
        "LKMONGO_OUTPUT": "json",
        "MONGODB_DB": "local",
        "VOYAGE_API_KEY": "a # b",
        "LKMONGO_HOME": "/data",
        "LKMONGO_LLM": "$HOME/x",
    }
    settings = Settings.load(environment, sources)
    assert settings.source("MONGODB_DB") == ".env.local"
    assert settings.source("LKMONGO_HOME") == ".env"
    assert settings.source("LKMONGO_OUTPUT") == "environment"
    assert settings.source("LKMONGO_AGENT") == "default"


def test_the_environment_wins_over_a_dotenv_file(tmp_path):
    (tmp_path / ".env").write_text("MONGODB_DB=shared\n")
    environment = {"MONGODB_DB": "mine"}
    assert load_dotenv_files(tmp_path, environment) == ({}, {})
    assert environment["MONGODB_DB"] == "mine"


RUN_CODE = """
LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES PYTHONPATH PYTHONSTARTUP PYTHONHOME PATH HOME SHELL BASH_ENV
GIT_SSH_COMMAND SSL_CERT_FILE HTTPS_PROXY https_proxy ALL_PROXY LIVEKIT_LIB_PATH OTEL_CONFIG_FILE OPENAI_API_KEY
OTEL_PYTHON_TRACER_PROVIDER OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER VOYAGE_API_KEY_PATH
""".split()


def test_of_a_dotenv_file_only_settings_are_taken(tmp_path):
    lines = [f"{name}=/evil" for name in RUN_CODE]
    settings = ["LKMONGO_LLM=m", "LKMONGO_LMM=typo", "OTEL_EXPORTER_OTLP_HEADERS=key=1", "OTEL_SERVICE_NAME=shop"]
    (tmp_path / ".env").write_text("\n".join(lines + settings))
    (tmp_path / ".env.local").write_text("LD_PRELOAD=/worse\n")
    environment: dict[str, str] = {}
    sources, ignored = load_dotenv_files(tmp_path, environment)
    assert environment == {
        "LKMONGO_LLM": "m",
        "LKMONGO_LMM": "typo",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=1",
        "OTEL_SERVICE_NAME": "shop",
    }
    assert sources == dict.fromkeys(environment, ".env")
    assert ignored == dict.fromkeys(RUN_CODE, ".env") | {"LD_PRELOAD": ".env.local"}
    loaded = Settings.load(environment, sources, ignored)
    assert (loaded.ignored, [name for name, _ in loaded.unknown]) == (ignored, ["LKMONGO_LMM"])


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,40}", fullmatch=True))
def test_no_other_name_is_taken(name):
    known = {variable.name for variable in Settings.variables()}
    assert is_taken(name) <= (name in known or name.startswith(("LKMONGO_", "OTEL_")))


def test_every_setting_is_taken():
    assert all(is_taken(variable.name) for variable in Settings.variables())


def test_what_is_ignored_is_told_in_a_sentence_without_values():
    ignored = {f"KEY_{number}": ".env" for number in range(7)} | {"KEY_0": ".env.local"}
    assert ignored_text(ignored) == (
        "KEY_0, KEY_1, KEY_2, KEY_3, KEY_4 and 2 more in .env.local and .env are ignored, because only settings of "
        "lkmongo are read from there; export what your own code needs"
    )


def test_a_dotenv_file_that_is_a_pipe_is_an_error_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_dotenv_files(tmp_path, {})


@pytest.mark.parametrize("content", [b"this is no assignment at all {\n", b"A='unclosed\n", b"A=\xff\xfe\n"])
def test_a_broken_dotenv_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=r"\.env"):
        load_dotenv_files(tmp_path, {})


@pytest.mark.parametrize(
    ("given_names", "missing"),
    [
        (["LIVEKIT_URL"], "LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set"),
        (["LIVEKIT_URL", "LIVEKIT_API_KEY"], "LIVEKIT_API_SECRET is not set"),
        (["LIVEKIT_API_SECRET"], "LIVEKIT_URL and LIVEKIT_API_KEY are not set"),
    ],
)
def test_some_of_the_livekit_variables_name_the_rest(given_names, missing):
    settings = Settings.load(dict.fromkeys(given_names, "wss://x.livekit.cloud"))
    with pytest.raises(SettingsError) as caught:
        _ = settings.livekit
    assert caught.value.message == missing


def test_none_of_the_livekit_variables_is_no_livekit():
    assert Settings.load({}).livekit is None


@pytest.mark.parametrize(
    "url", ["https://example.com/hook?a=b", "http://localhost:8090", "http://127.0.0.1/hook", "http://[::1]:8090/hook"]
)
def test_a_webhook_has_an_address_and_a_key(url):
    settings = Settings.load({"LKMONGO_WEBHOOK_URL": url, "LKMONGO_WEBHOOK_SECRET": WEBHOOK_SECRET})
    address, key = settings.webhook
    assert (address, len(key)) == (url, 24)
    assert Settings.load({"LKMONGO_WEBHOOK_SECRET": WEBHOOK_SECRET}).webhook is None
    with pytest.raises(SettingsError, match="LKMONGO_WEBHOOK_SECRET is not set"):
        _ = Settings.load({"LKMONGO_WEBHOOK_URL": url}).webhook


def test_voyage_without_a_key_is_refused_and_a_key_switches_to_it():
    with pytest.raises(SettingsError, match="VOYAGE_API_KEY"):
        _ = Settings.load({"LKMONGO_EMBEDDINGS": "voyage"}).embedder_kind
    assert Settings.load({"VOYAGE_API_KEY": SECRET}).embedder_kind == "voyage"
    assert Settings.load({"VOYAGE_API_KEY": SECRET, "LKMONGO_EMBEDDINGS": "local"}).embedder_kind == "local"
    assert Settings.load({}).embedder_kind == "local"


@pytest.mark.parametrize(
    ("environ", "said", "hint"),
    [
        ({}, "MONGODB_URI is not set", "set MONGODB_URI and unset LKMONGO_SEARCH"),
        ({"MONGODB_URI": "mongodb://h", "LKMONGO_SEARCH": "exact"}, "LKMONGO_SEARCH is exact", "unset LKMONGO_SEARCH"),
    ],
)
def test_mongodb_embeds_only_where_its_indexes_are_searched(environ, said, hint):
    with pytest.raises(SettingsError, match=f"LKMONGO_EMBEDDINGS is atlas, but {said}") as caught:
        _ = Settings.load({"LKMONGO_EMBEDDINGS": "atlas"} | environ).embedder_kind
    assert hint in caught.value.hint
    fits = Settings.load({"LKMONGO_EMBEDDINGS": "atlas", "MONGODB_URI": "mongodb://h"})
    assert fits.embedder_kind == "atlas", "and no key is asked for"


def test_a_misspelt_variable_is_noticed():
    settings = Settings.load({"LKMONGO_EMBEDDING": "local", "LKMONGO_XYZ": "1"})
    assert settings.unknown == [("LKMONGO_EMBEDDING", "LKMONGO_EMBEDDINGS"), ("LKMONGO_XYZ", None)]


@pytest.mark.parametrize(
    ("platform", "data_home", "folder"),
    [
        ("linux", "", "/home/ada/.local/share/lkmongo"),
        ("linux", "/srv/data", "/srv/data/lkmongo"),
        ("linux", "relative", "/home/ada/.local/share/lkmongo"),
        ("darwin", "", "/home/ada/Library/Application Support/lkmongo"),
    ],
)
def test_what_is_kept_on_this_machine_lies_where_the_system_keeps_such_things(monkeypatch, platform, data_home, folder):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_DATA_HOME", data_home)
    assert Settings.load({}).data_home == Path(folder)


@pytest.mark.parametrize(
    "given",
    [
        {"LKMONGO_LLM_BASE_URL": "http://127.0.0.1:1/v1", "LKMONGO_LLM_API_KEY": "k"},
        {"LIVEKIT_URL": "wss://x.livekit.cloud", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"},
        {
            "LIVEKIT_INFERENCE_URL": "http://127.0.0.1:1",
            "LIVEKIT_INFERENCE_API_KEY": "k",
            "LIVEKIT_INFERENCE_API_SECRET": "s",
        },
    ],
)
def test_what_sets_a_language_model_up_can_be_left_out(given):
    settings = Settings.load(given)
    assert settings.has_language_model
    assert not settings.without_language_model().has_language_model
    assert not Settings.load({"LIVEKIT_URL": "wss://x.livekit.cloud"}).has_language_model, "no error here"
