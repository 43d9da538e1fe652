"""Checks of this machine: the program, its settings, and the folder that holds its data."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from lkmongo import __version__
from lkmongo.doctor.check import Finding, fail, ok, warn
from lkmongo.dotenv_files import ignored_text
from lkmongo.errors import SettingsError
from lkmongo.outbox import journal
from lkmongo.redact import mask
from lkmongo.setting_checks import ENVIRONMENT
from lkmongo.settings import Settings

_HOST = r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]|[\w.-]*%2[Ff][\w.%-]+)(?::\d+)?"
_LIBRARIES = ("livekit-agents", "livekit-api", "pymongo", "voyageai")


def program() -> Finding:
    """The versions in use: the first thing that anyone who helps will ask for."""
    libraries = [f"{name} {version}" for name in _LIBRARIES if (version := _version(name))]
    system = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    return ok(f"lkmongo {__version__}, {system} {platform.machine()}", ", ".join(libraries))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def settings_in_use(settings: Settings, problems: Mapping[str, SettingsError]) -> Finding:
    """What is set and where, with secrets masked; invalid values, and unknown variables.

    Args:
        settings: without the invalid ones.
        problems: why a variable or a dotenv file is invalid, by its name.
    """
    facts = tuple(_shown(settings))
    if settings.ignored:
        facts += (ignored_text(settings.ignored),)
    if problems:
        messages = [f"{each.message} ({each.why})" if each.why else each.message for each in problems.values()]
        first = next((each.hint for each in problems.values() if each.hint), None)
        return fail("; ".join(messages), first, facts)
    if unknown := settings.unknown:
        name, meant = unknown[0]
        names = ", ".join(each for each, _ in unknown)
        return warn(
            f"{names} {'is not a setting' if len(unknown) == 1 else 'are not settings'}",
            f"rename {name} to {meant}" if meant else f"unset {name}; docs/settings.md lists the settings",
            facts,
        )
    number = len(facts) - bool(settings.ignored)
    return ok(f"{number} set" if number else "nothing is set: everything runs on this machine", *facts)


def incomplete(settings: Settings) -> dict[str, SettingsError]:
    """Settings that are valid alone but not together, under the variable to change."""
    from lkmongo.embed.choose import embedder_for
    from lkmongo.search.rerank import check_reranker
    from lkmongo.speech.servers import stt_server, tts_server

    problems: dict[str, SettingsError] = {}
    try:
        _ = settings.livekit
    except SettingsError as error:
        problems["LIVEKIT_URL"] = error
    try:
        embedder_for(settings)
    except SettingsError as error:
        problems["LKMONGO_EMBEDDINGS"] = error
    try:
        check_reranker(settings)
    except SettingsError as error:
        problems["LKMONGO_RERANK"] = error
    for name, server in (("LKMONGO_STT", stt_server), ("LKMONGO_TTS", tts_server)):
        try:
            server(settings)
        except SettingsError as error:
            problems[name] = error
    try:
        _ = settings.webhook
    except SettingsError as error:
        problems["LKMONGO_WEBHOOK_SECRET"] = error
    return problems


def _shown(settings: Settings) -> Iterator[str]:
    """A line for each variable that is set: its value, masked if secret, and its source."""
    for variable, (name, field) in zip(Settings.variables(), Settings.model_fields.items(), strict=True):
        source = settings.source(variable.name)
        if source == "default":
            continue
        value = getattr(settings, name)
        if field.alias == "MONGODB_URI" and value:
            shown = address(value.get_secret_value())
        elif isinstance(value, SecretStr):
            shown = mask(value.get_secret_value())
        else:
            shown = str(value).partition("?")[0]  # what follows in an address may be a key
        yield f"{variable.name} = {shown} (from {'the environment' if source == ENVIRONMENT else source})"


def in_transit(settings: Settings) -> Finding:
    """Whether everything that leaves this machine is encrypted on its way."""
    from lkmongo.setting_checks import is_loopback
    from lkmongo.store.mongo.client import is_encrypted, is_local

    plain: list[str] = []
    uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else None
    if uri and not is_local(uri) and not is_encrypted(uri):
        plain.append(f"MONGODB_URI: {address(uri)} without tls=true: what is remembered, and the password's proof")
    for name, url, what in (
        ("LIVEKIT_URL", settings.livekit_url, "tokens, and what is typed"),
        ("LIVEKIT_INFERENCE_URL", settings.inference_url, "a key, and what is said"),
        ("LKMONGO_LLM_BASE_URL", settings.llm_base_url, "what is said and remembered"),
        ("LKMONGO_STT_BASE_URL", settings.stt_base_url, "what is said"),
        ("LKMONGO_TTS_BASE_URL", settings.tts_base_url, "what the agent says"),
        ("LKMONGO_EMBEDDING_BASE_URL", settings.embedding_base_url, "what is said and remembered"),
        ("VOYAGE_BASE_URL", settings.voyage_base_url, "a key, and what is said"),
    ):
        parts = urlsplit(url or "")
        if parts.scheme in {"ws", "http"} and not is_loopback(parts.hostname or ""):
            plain.append(f"{name}: {parts.scheme}://{parts.hostname}: {what}")
    if plain:
        names = ", ".join(line.partition(":")[0] for line in plain)
        return warn(
            f"not encrypted on the way to another machine: {names}",
            "use wss:// or https://, and tls=true or mongodb+srv:// for MongoDB",
            plain,
        )
    return ok("nothing leaves this machine unencrypted")


def address(uri: str) -> str:
    """The hosts of a MongoDB address, without user, password and options.

    An address that is not escaped properly is not taken apart: any part of it may be the password.
    """
    match = re.fullmatch(rf"(mongodb(?:\+srv)?://)(?:[^@/?#]*@)?({_HOST}(?:,{_HOST})*)(?:[/?][^@]*)?", uri)
    return f"{match[1]}{match[2]}" if match else f"{uri.partition('://')[0]}://***"


GIB = 1024**3
NEEDED, COMFORTABLE = 1 * GIB, 5 * GIB
"""Bytes: below the first it is a failure, because mongod aborts without space; below the second a warning."""


def space(home: Path, *, needed: int = NEEDED, comfortable: int = COMFORTABLE) -> Finding:
    """Whether the home can be written to, and how much space it has; it need not exist yet."""
    there = next((path for path in (home, *home.parents) if path.exists()), Path(home.anchor))
    elsewhere = "set LKMONGO_HOME to a folder that you may write to"
    if not there.is_dir():
        return fail(f"{there} is not a folder", elsewhere)
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{there} cannot be written to", elsewhere)
    free = shutil.disk_usage(there).free
    summary = f"{free / GIB:,.1f} GiB are free at {home}"
    if free < needed:
        return fail(f"only {summary}", "free some space, or set LKMONGO_HOME to a folder on another disk")
    if free < comfortable:
        return warn(summary, "free some space, or set LKMONGO_HOME to a folder on another disk")
    return waiting(journal.journal_folder(home), summary)


def waiting(folder: Path, summary: str) -> Finding:
    """Whether finished calls have left data that is not stored in MongoDB yet.

    Args:
        folder: of the journals.
        summary: of the check of the disk, to be extended.
    """
    paths = []
    size = 0
    try:
        for path in journal.files(folder):
            with journal.locked(path) as is_over:
                if is_over:
                    paths.append(path)
                    size += path.stat().st_size
    except journal.JournalError as error:
        return warn(f"{summary}; {error.message}", error.hint or "run lkmongo as its owner")
    if not paths:
        return ok(summary)
    calls = "1 call waits" if len(paths) == 1 else f"{len(paths):,} calls wait"
    return warn(
        f"{calls} for MongoDB ({size:,} bytes in {folder}); {summary}",
        "lkmongo sessions recover",
        [f"the oldest began at {_began(paths[0])}"],
    )


def size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _began(path: Path) -> str:
    """When the call of a journal began, from the file's name."""
    stamp = path.stem.partition("-")[0]
    try:
        return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%S'):%Y-%m-%d %H:%M:%S} UTC"  # noqa: DTZ007 - shown as it is
    except ValueError:
        return f"{stamp} UTC"
