"""The settings as loaded: the source of each value, and what several of them mean together. Secrets are never printed.

An empty value means unset. Besides `lkmongo.dotenv_files` and `lkmongo.child_process`, which passes some of it on, this
is the only module that reads `os.environ`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from pydantic import PrivateAttr, SecretStr, ValidationError

from lkmongo import setting_checks as check
from lkmongo.errors import SettingsError
from lkmongo.setting_checks import LiveKitCredentials as LiveKitCredentials  # noqa: PLC0414 - for those who type it
from lkmongo.setting_checks import Variable
from lkmongo.setting_fields import Fields

if TYPE_CHECKING:
    from lkmongo.tenants import Limits, Tenants

LINGER_AT_TERMINAL = timedelta(seconds=60)
_TEST_VARIABLES = {"LKMONGO_TEST_ATLAS_URI"}


class Settings(Fields):
    """All settings of one process; build it with `Settings.load`."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _unknown: tuple[str, ...] = PrivateAttr(default=())
    _ignored: dict[str, str] = PrivateAttr(default_factory=dict)
    _is_ci: bool = PrivateAttr(default=False)
    _in_github: bool = PrivateAttr(default=False)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
        ignored: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read the settings from `environ` (default `os.environ`).

        Args:
            environ: variables and their values.
            sources: the dotenv file of each variable that came from one.
            ignored: the dotenv file of each variable that was not taken from one.

        Raises:
            SettingsError: a value is invalid; the message names the variable and the accepted values.
        """
        settings, problems = cls.load_what_fits(environ, sources, ignored)
        for error in problems.values():
            raise error
        return settings

    @classmethod
    def load_what_fits(
        cls,
        environ: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
        ignored: Mapping[str, str] | None = None,
    ) -> tuple[Settings, dict[str, SettingsError]]:
        """Read the settings as `load` does, but ignore invalid ones; returns their errors by variable."""
        environ = os.environ if environ is None else environ
        names = {field.alias for field in cls.model_fields.values() if field.alias}
        values = {name: environ[name].strip() for name in names if environ.get(name, "").strip()}
        problems: dict[str, SettingsError] = {}
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                name = str(each["loc"][0])
                problems.setdefault(name, check.explain(name, each, sources or {}))
            values = {name: value for name, value in values.items() if name not in problems}
            settings = cls.model_validate(values)
        # pydantic sets private attributes outside the constructor by design
        settings._is_ci = bool(environ.get("CI"))  # noqa: SLF001
        settings._in_github = environ.get("GITHUB_ACTIONS") == "true"  # noqa: SLF001
        settings._sources = {name: (sources or {}).get(name, check.ENVIRONMENT) for name in values}  # noqa: SLF001
        settings._ignored = dict(ignored or {})  # noqa: SLF001
        settings._unknown = tuple(  # noqa: SLF001
            sorted(n for n in environ if n.startswith("LKMONGO_") and n not in names and n not in _TEST_VARIABLES)
        )
        return settings, problems

    def override(self, **values: Any) -> Settings:
        """The same with other values, each by the name of its field, such as `mongodb_uri`; None and "" mean unset.

        Raises:
            SettingsError: there is no such setting, or it does not take that value.
        """
        aliases = {name: field.alias or "" for name, field in type(self).model_fields.items()}
        for name in values.keys() - aliases.keys():
            near = difflib.get_close_matches(name.lower(), aliases, 1, 0.6)
            by_alias = [field for field, alias in aliases.items() if alias == name.upper()]
            meant = next(iter(by_alias + near), None)
            raise SettingsError(
                f"there is no setting {name}",
                hint=f"did you mean {meant}?" if meant else f"these are: {', '.join(aliases)}",
            )
        given = {aliases[name]: value for name, value in values.items() if value is not None and value != ""}
        # What a model is called depends on who has it.
        servers = {
            aliases[name]: getattr(self, name) for name in ("stt_base_url", "tts_base_url") if name not in values
        }
        try:
            checked = type(self).model_validate(servers | given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = next(name for name, alias in aliases.items() if alias == first["loc"][0])
            raise check.explain(name, first, {name: "the program"}) from None
        settings = self.model_copy(update={name: getattr(checked, name) for name in values})
        settings._sources = self._sources | {aliases[name]: "the program" for name in values}  # noqa: SLF001
        return settings

    @classmethod
    def variables(cls) -> Iterator[Variable]:
        for field in cls.model_fields.values():
            default = (field.examples or [f"`{field.default}`" if field.default is not None else "unset"])[0]
            secret = "SecretStr" in str(field.annotation)
            yield Variable(field.alias or "", field.description or "", str(default), secret)

    def source(self, name: str) -> str:
        """Where the value of a variable came from: "environment", a dotenv file's name, or "default"."""
        return self._sources.get(name, "default")

    @property
    def unknown(self) -> list[tuple[str, str | None]]:
        """Unknown variables that look like settings, each with the setting that was perhaps meant."""
        names = [variable.name for variable in self.variables()]
        return [(name, next(iter(difflib.get_close_matches(name, names, 1, 0.8)), None)) for name in self._unknown]

    @property
    def ignored(self) -> dict[str, str]:
        """Variables in dotenv files that are no settings, and so were not taken; each with its file."""
        return dict(self._ignored)

    @property
    def secrets(self) -> list[str]:
        """The values to `redact` everywhere."""
        values = [value.get_secret_value() for value in self.__dict__.values() if isinstance(value, SecretStr)]
        for uri in list(values):
            if match := re.match(r"mongodb(?:\+srv)?://[^@/:]*:([^@/]+)@", uri):
                values += [match.group(1), unquote(match.group(1))]
        return [*values, *self.former_secrets, *(self.web_keys.get_secret_value().split(",") if self.web_keys else [])]

    @property
    def former_secrets(self) -> tuple[str, ...]:
        """The values of LKMONGO_PREVIOUS_SECRETS."""
        return tuple(self.previous_secrets.get_secret_value().split(",")) if self.previous_secrets else ()

    @property
    def in_github_actions(self) -> bool:
        """Whether this runs in a workflow of GitHub, whose log has groups and notices."""
        return self._in_github

    def at_terminal(self) -> Settings:
        """The same for an interactive command: the embedded mongod keeps running for the next one."""
        if self.linger is not None or self._is_ci:
            return self
        return self.model_copy(update={"linger": LINGER_AT_TERMINAL})

    @property
    def data_home(self) -> Path:
        if self.home:
            return self.home.expanduser().absolute()
        if (own := os.environ.get("XDG_DATA_HOME", "").strip()) and Path(own).is_absolute():
            return Path(own, "lkmongo")
        return Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "lkmongo"

    def tenant_policies(self) -> Tenants:
        """What LKMONGO_TENANTS says of each tenant, read anew.

        Raises:
            SettingsError: the file cannot be read or is invalid.
            MissingExtraError: it has telephone numbers, and the extra `phone` is not installed.
        """
        from lkmongo.tenant_phone import TenantPhone
        from lkmongo.tenants import Tenants

        phone = TenantPhone(region=self.phone_region, recycled_after=self.phone_recycled_after)
        return Tenants.load(self.tenants, phone)

    def limits_of(self, tenant_id: str) -> Limits:
        """What callers of a tenant may.

        Raises:
            SettingsError: as `tenant_policies` does.
        """
        from lkmongo.tenants import Limits

        for_all = {each.name: getattr(self, f"max_{each.name}") for each in fields(Limits)}
        return Limits(**for_all | self.tenant_policies().policy(tenant_id).limits.given)

    @property
    def embedder_kind(self) -> Literal["voyage", "openai", "local", "atlas"]:
        """The embedder: as set, else the server whose address is set, else Voyage if there is a key for it.

        Raises:
            SettingsError: Voyage is set, but its key is missing; or Atlas is, but not a database with search indexes.
        """
        if self.embeddings == "atlas":
            check.can_embed(self.mongodb_uri, self.search)
        if self.embeddings == "voyage" and not self.voyage_api_key:
            raise SettingsError(
                "LKMONGO_EMBEDDINGS is voyage, but VOYAGE_API_KEY is not set",
                hint="set VOYAGE_API_KEY, or LKMONGO_EMBEDDINGS=local",
            )
        implied: Literal["voyage", "local"] = "voyage" if self.voyage_api_key else "local"
        return self.embeddings or ("openai" if self.embedding_base_url else implied)

    @property
    def livekit(self) -> LiveKitCredentials | None:
        """The LiveKit project, or None if none of its variables is set.

        Raises:
            SettingsError: some of the three variables are set; the message names the missing ones.
        """
        three = {
            "LIVEKIT_URL": self.livekit_url,
            "LIVEKIT_API_KEY": self.livekit_api_key,
            "LIVEKIT_API_SECRET": self.livekit_api_secret,
        }
        missing = [name for name, value in three.items() if not value]
        if len(missing) == len(three):
            return None
        if missing or not (self.livekit_url and self.livekit_api_key and self.livekit_api_secret):
            given = [name for name in three if name not in missing]
            raise SettingsError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
                why=f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'}, and LiveKit needs all three",
                hint="set all three in .env.local, or none of them",
            )
        return LiveKitCredentials(self.livekit_url, self.livekit_api_key, self.livekit_api_secret, self.former_secrets)

    @property
    def webhook(self) -> tuple[str, bytes] | None:
        """Address and signing key of the webhook, or None if there is no address.

        Raises:
            SettingsError: the secret is missing.
        """
        if self.webhook_url is None:
            return None
        if self.webhook_secret is None:
            raise SettingsError(
                "LKMONGO_WEBHOOK_SECRET is not set",
                why="LKMONGO_WEBHOOK_URL is, and a request that is not signed could be anybody's",
                hint="set it to the output of echo whsec_$(openssl rand -base64 32), and give it to the receiver",
            )
        return self.webhook_url.get_secret_value(), check.signing_key(self.webhook_secret.get_secret_value())

    @property
    def inference(self) -> tuple[str, str] | None:
        """Key and secret for LiveKit Inference, or None if it cannot be used.

        Raises:
            SettingsError: some of the LiveKit variables are set, others missing.
        """
        livekit = self.livekit
        if self.inference_url or self.inference_api_key:
            key = self.inference_api_key or (livekit.api_key if livekit else None)
            secret = self.inference_api_secret or (livekit.api_secret if livekit else None)
            if not key or not secret:
                missing = "LIVEKIT_INFERENCE_API_KEY" if not key else "LIVEKIT_INFERENCE_API_SECRET"
                raise SettingsError(
                    f"{missing} is not set", hint="set it, or unset the other LIVEKIT_INFERENCE variables"
                )
            return key, secret.get_secret_value()
        if livekit and re.match(r"wss?://[^/]*\.livekit\.cloud(/|:|$)", livekit.url):
            return livekit.api_key, livekit.api_secret.get_secret_value()
        return None

    @property
    def has_language_model(self) -> bool:
        """Whether a language model is set up; False as well while some of LiveKit's variables are missing."""
        try:
            return bool(self.llm_base_url or self.inference)
        except SettingsError:
            return False

    def without_language_model(self) -> Settings:
        """The same without what sets one up: its server, the inference gateway, and the LiveKit project."""
        names = [name for name in type(self).model_fields if name.startswith(("llm_", "inference_", "livekit_"))]
        return self.model_copy(update=dict.fromkeys(names))
