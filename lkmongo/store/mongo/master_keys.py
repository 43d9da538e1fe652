"""The master key that wraps the keys of people: a file on this machine, or a key in a KMS, as the settings say.

It never leaves its place: the driver's library wraps and unwraps with it. A file has one key a line, the newest first:
the first wraps, all of them unwrap, so that `lkmongo db encrypt --rewrap` can replace one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lkmongo.errors import SettingsError
from lkmongo.files import sync_folder, write_all
from lkmongo.settings import Settings

_BYTES = 96
_AZURE = re.compile(r"https://([^/]+)/keys/([^/]+)(?:/([^/]+))?/?")
_GCP = re.compile(
    r"projects/([^/]+)/locations/([^/]+)/keyRings/([^/]+)/cryptoKeys/([^/]+)(?:/cryptoKeyVersions/(\w+))?"
)
_AWS = re.compile(r"arn:aws[\w-]*:kms:([\w-]+):\d*:(?:key|alias)/\S+")


@dataclass(frozen=True)
class MasterKeys:
    """What wraps the keys, as the driver wants it.

    Attributes:
        providers: by name, such as `local:ab12` or `aws`; all of them unwrap.
        wraps: the name of the one that new keys are wrapped by.
        key: which master key of that provider; None for a local one.
        tls: files for the connection to the provider, by its name.
        where: the master key in words, for messages.
    """

    providers: Mapping[str, Mapping[str, Any]]
    wraps: str
    key: Mapping[str, Any] | None = None
    tls: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    where: str = ""


def key_file(settings: Settings) -> Path:
    """Where the local master key is, or would be."""
    own = settings.encryption_key_file
    return own.expanduser() if own else settings.data_home / "encryption.key"


def make_key_file(settings: Settings) -> Path:
    """Make a file with a new local master key, which only its owner may read; returns its path.

    Raises:
        SettingsError: it cannot be written, or is there already.
    """
    path = key_file(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            write_all(descriptor, base64.b64encode(secrets.token_bytes(_BYTES)) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be made: {error.strerror}", hint="set LKMONGO_ENCRYPTION_KEY_FILE"
        ) from None
    return path


def master_keys(settings: Settings) -> MasterKeys | None:
    """The master keys of the settings; None if encryption is off.

    Raises:
        SettingsError: something that the provider needs is missing or invalid.
    """
    if settings.encryption == "off":
        return None
    if settings.embedder_kind == "atlas":
        raise SettingsError(
            "LKMONGO_EMBEDDINGS is atlas, and LKMONGO_ENCRYPTION is not off",
            why="MongoDB would have to read what is encrypted to make vectors of it",
            hint="set LKMONGO_EMBEDDINGS to voyage, openai or local",
        )
    path = key_file(settings)
    if settings.encryption == "local":
        return _local(path)
    wraps, key = settings.encryption, _kms_key(settings)
    providers: dict[str, Mapping[str, Any]] = {wraps: _credentials(settings)}
    if path.is_file():  # what a file wrapped before can be wrapped anew
        providers |= _local(path).providers
    files = {"tlsCAFile": settings.kms_ca, "tlsCertificateKeyFile": settings.kms_certificate}
    tls = {name: str(file.expanduser()) for name, file in files.items() if file}
    where = settings.kms_key or settings.kms_endpoint or wraps
    return MasterKeys(providers, wraps, key, {wraps: tls} if tls else {}, f"{where} of {wraps}")


def _local(path: Path) -> MasterKeys:
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(
                f"{path} holds the master key, and others may read it", hint=f"chmod 600 {path}, and make a new one"
            )
        lines = path.read_bytes().split()
    except FileNotFoundError:
        raise SettingsError(
            f"there is no master key in {path}",
            why="LKMONGO_ENCRYPTION is local",
            hint="lkmongo db encrypt makes one; or copy it from the machine that has it, or set "
            "LKMONGO_ENCRYPTION_KEY_FILE",
        ) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint="it holds the master key") from None
    keys = []
    for line in lines:
        try:
            keys.append(base64.b64decode(line, validate=True))
        except binascii.Error:
            keys.append(b"")
    if not keys or any(len(key) != _BYTES for key in keys):
        raise SettingsError(
            f"{path} must hold {_BYTES} bytes in base64 on each line", hint="openssl rand -base64 96 | tr -d '\\n'"
        )
    providers = {f"local:{hashlib.sha256(key).hexdigest()[:16]}": {"key": key} for key in keys}
    return MasterKeys(providers, next(iter(providers)), where=f"the file {path}")


def _kms_key(settings: Settings) -> dict[str, Any]:
    name, endpoint = settings.kms_key or "", settings.kms_endpoint
    more = {"endpoint": endpoint} if endpoint else {}
    match settings.encryption:
        case "aws":
            if found := _AWS.fullmatch(name):
                return {"region": found[1], "key": name} | more
            raise _no_key(settings, "an ARN such as arn:aws:kms:eu-central-1:123456789012:key/...")
        case "azure":
            if found := _AZURE.fullmatch(name):
                version = {"keyVersion": found[3]} if found[3] else {}
                return {"keyVaultEndpoint": found[1], "keyName": found[2]} | version
            raise _no_key(settings, "an address such as https://NAME.vault.azure.net/keys/KEY")
        case "gcp":
            if found := _GCP.fullmatch(name):
                names = dict(zip(("projectId", "location", "keyRing", "keyName"), found.groups()[:4], strict=True))
                return names | ({"keyVersion": found[5]} if found[5] else {}) | more
            raise _no_key(settings, "a name such as projects/P/locations/L/keyRings/R/cryptoKeys/KEY")
        case _:
            if not endpoint:
                raise SettingsError(
                    "LKMONGO_KMS_ENDPOINT is not set",
                    why=f"LKMONGO_ENCRYPTION is {settings.encryption}",
                    hint="set it to host:port of the KMIP server, and LKMONGO_KMS_CERTIFICATE",
                )
            return ({"keyId": name} if name else {}) | more


def _no_key(settings: Settings, like: str) -> SettingsError:
    said = "is not a key of it" if settings.kms_key else "is not set"
    why = f"LKMONGO_ENCRYPTION is {settings.encryption}"
    return SettingsError(f"LKMONGO_KMS_KEY {said}", why=why, hint=f"set it to {like}")


def _credentials(settings: Settings) -> dict[str, Any]:
    """What the KMS accepts: what is in the file, or nothing, for what the machine has."""
    found: dict[str, Any] = {}
    if settings.kms_credentials:
        path = settings.kms_credentials.expanduser()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SettingsError(f"LKMONGO_KMS_CREDENTIALS: {path} is not a JSON file that can be read") from None
        if not isinstance(found, dict):
            raise SettingsError(f"LKMONGO_KMS_CREDENTIALS: {path} must hold a JSON object")
    if "private_key" in found:  # a service account's own file, as Google hands it out
        body = "".join(str(found["private_key"]).strip().splitlines()[1:-1])
        found = {"email": found.get("client_email"), "privateKey": body}
    if settings.encryption == "kmip":
        found["endpoint"] = settings.kms_endpoint
    return found
