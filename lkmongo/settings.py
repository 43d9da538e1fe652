"""Typed settings: every variable, its meaning, and the source of its value. Secrets are never printed.

An empty value means unset. Besides `lkmongo.dotenv_files`, this is the only module that reads `os.environ`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from lkmongo import setting_checks as check
from lkmongo.after_end import Mode
from lkmongo.errors import SettingsError
from lkmongo.setting_checks import LiveKitCredentials as LiveKitCredentials  # noqa: PLC0414 - for those who type it
from lkmongo.setting_checks import Variable

LINGER_AT_TERMINAL = timedelta(seconds=60)
_TEST_VARIABLES = {"LKMONGO_TEST_ATLAS_URI"}


Fusion = Literal["ranks", "scores"]
"""How the two branches of a search become one result."""
Switch = Annotated[bool, BeforeValidator(check.switch)]
HttpUrl = Annotated[str, check.url("http", "https")]


class Settings(BaseModel):
    """All settings of one process; build it with `Settings.load`."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=False)

    livekit_url: Annotated[str, check.url("ws", "wss", "http", "https")] | None = Field(
        None, alias="LIVEKIT_URL", description="address of the LiveKit server", examples=["text console only"]
    )
    livekit_api_key: str | None = Field(None, alias="LIVEKIT_API_KEY", description="key of the LiveKit project")
    livekit_api_secret: SecretStr | None = Field(
        None, alias="LIVEKIT_API_SECRET", description="secret of the LiveKit project"
    )
    inference_url: HttpUrl | None = Field(
        None,
        alias="LIVEKIT_INFERENCE_URL",
        description="your own inference gateway",
        examples=["LiveKit Cloud's, when LIVEKIT_URL is a `.livekit.cloud` address"],
    )
    inference_api_key: str | None = Field(
        None,
        alias="LIVEKIT_INFERENCE_API_KEY",
        description="key of the inference gateway",
        examples=["LIVEKIT_API_KEY"],
    )
    inference_api_secret: SecretStr | None = Field(
        None,
        alias="LIVEKIT_INFERENCE_API_SECRET",
        description="secret of the inference gateway",
        examples=["LIVEKIT_API_SECRET"],
    )
    mongodb_uri: Annotated[SecretStr, BeforeValidator(check.mongodb_uri)] | None = Field(
        None,
        alias="MONGODB_URI",
        description="connection string of Atlas or any other MongoDB (`mongodb://` or `mongodb+srv://`)",
        examples=["the embedded mongod, under LKMONGO_HOME"],
    )
    mongodb_db: str = Field(
        "lkmongo", alias="MONGODB_DB", description="name of the database", pattern=r"^[^/\\. \"$*<>:|?]{1,63}$"
    )
    voyage_api_key: SecretStr | None = Field(
        None,
        alias="VOYAGE_API_KEY",
        description="key for Voyage embeddings",
        examples=["text is embedded on this machine"],
    )
    voyage_base_url: HttpUrl | None = Field(
        None, alias="VOYAGE_BASE_URL", description="another address of the Voyage API", examples=["depends on the key"]
    )
    embeddings: Literal["voyage", "openai", "local", "atlas"] | None = Field(
        None,
        alias="LKMONGO_EMBEDDINGS",
        description="who embeds: `voyage`, `openai` (LKMONGO_EMBEDDING_BASE_URL), `local`, or `atlas` (MongoDB itself)",
        examples=["`openai` with a LKMONGO_EMBEDDING_BASE_URL, else `voyage` with a VOYAGE_API_KEY, else `local`"],
    )
    embedding_base_url: Annotated[str, BeforeValidator(check.embedding_address)] | None = Field(
        None,
        alias="LKMONGO_EMBEDDING_BASE_URL",
        description="a server with OpenAI's embeddings API, such as Ollama, vLLM or OpenAI: what `/embeddings` follows",
        examples=["LKMONGO_EMBEDDINGS=openai is an error"],
    )
    embedding_api_key: SecretStr | None = Field(
        None, alias="LKMONGO_EMBEDDING_API_KEY", description="key of that server, if it needs one", examples=["none"]
    )
    embedding_model: str | None = Field(
        None,
        alias="LKMONGO_EMBEDDING_MODEL",
        description="the embedding model, as Voyage or that server calls it",
        examples=["`voyage-4-lite` for `voyage`; for `openai` it is needed"],
    )
    embedding_dimensions: int | None = Field(
        None,
        alias="LKMONGO_EMBEDDING_DIMENSIONS",
        description="how many numbers a vector has",
        gt=0,
        le=8192,
        examples=["512 for `voyage`; for `openai` those of a known model, else it is needed"],
    )
    embedding_query_prefix: Annotated[str, BeforeValidator(check.prefix)] | None = Field(
        None,
        alias="LKMONGO_EMBEDDING_QUERY_PREFIX",
        description="for `openai`: what stands before a query, with a space between, such as `query:`; or `none`",
        examples=["what the model was trained with, if its name is known"],
    )
    embedding_document_prefix: Annotated[str, BeforeValidator(check.prefix)] | None = Field(
        None,
        alias="LKMONGO_EMBEDDING_DOCUMENT_PREFIX",
        description="the same for a document, such as `passage:`; a change of it needs `lkmongo db embed`",
        examples=["what the model was trained with, if its name is known"],
    )
    search: Literal["auto", "atlas", "exact"] = Field(
        "auto",
        alias="LKMONGO_SEARCH",
        description=("how memories and knowledge are searched: `auto` (Atlas Search if available), `atlas` or `exact`"),
    )
    fusion: Fusion | None = Field(
        None,
        alias="LKMONGO_FUSION",
        description="how Atlas fuses words and vectors: by `ranks` (`$rankFusion`), or by `scores`, as exact search",
        examples=["`scores` with local embeddings, else `ranks`"],
    )
    rerank: Literal["off", "voyage", "atlas"] = Field(
        "off",
        alias="LKMONGO_RERANK",
        description="who reorders found passages: `voyage` (by VOYAGE_API_KEY), `atlas` (`$rerank`, 8.3) or `off`",
    )
    quantization: Literal["none", "scalar", "binary"] | None = Field(
        None,
        alias="LKMONGO_QUANTIZATION",
        description=(
            "how the search index of the knowledge base compresses its vectors on Atlas: `none`, `scalar` or `binary`"
        ),
        examples=["as it is in Atlas; `none` for a new index"],
    )
    indexing_method: Literal["hnsw", "flat"] | None = Field(
        None,
        alias="LKMONGO_INDEXING_METHOD",
        description=(
            "how the search index of memories is built on Atlas: `hnsw`, or `flat`, without a graph (in preview there)"
        ),
        examples=["as it is in Atlas; `hnsw` for a new index"],
    )
    speculation: Switch = Field(
        True,
        alias="LKMONGO_SPECULATION",
        description="search while the caller is still speaking, for a faster answer: `on` or `off`",
        examples=["on"],
    )
    stt: Annotated[str, check.speech_models("language", "deepgram/nova-3:multi")] = Field(
        "deepgram/nova-3:multi",
        alias="LKMONGO_STT",
        description="speech recognition: a LiveKit Inference string, then any fallbacks, separated by commas",
    )
    llm: Annotated[str, BeforeValidator(check.model_names)] = Field(
        "openai/gpt-5.3-chat-latest",
        alias="LKMONGO_LLM",
        description=(
            "language model: a LiveKit Inference string, or the name of a model at LKMONGO_LLM_BASE_URL, "
            "then any fallbacks, separated by commas"
        ),
    )
    tts: Annotated[str, check.speech_models("voice", "cartesia/sonic-3")] = Field(
        "cartesia/sonic-3:9626c31c-bec5-4cca-baa8-f8ba9e84c8bc",
        alias="LKMONGO_TTS",
        description="the agent's voice: a LiveKit Inference string, then any fallbacks, separated by commas",
    )
    vad: Literal["bundled", "silero"] = Field(
        "bundled", alias="LKMONGO_VAD", description="voice activity detection: `bundled` or `silero`"
    )
    turn_detection: Literal["bundled", "multilingual"] = Field(
        "bundled",
        alias="LKMONGO_TURN_DETECTION",
        description=("end-of-turn detection: `bundled`, or `multilingual` after `lkmongo agent download-files`"),
    )
    llm_base_url: HttpUrl | None = Field(
        None,
        alias="LKMONGO_LLM_BASE_URL",
        description="any OpenAI-compatible server, such as Ollama, llama.cpp or vLLM",
        examples=["LiveKit Inference, else the demo responder"],
    )
    llm_api_key: SecretStr | None = Field(
        None, alias="LKMONGO_LLM_API_KEY", description="key of that server, if it needs one", examples=["none"]
    )
    learn: Mode = Field(
        "on",
        alias="LKMONGO_LEARN",
        description=(
            "what is learned from a call after its end: `on` stores facts, `suggest` lets them wait until somebody "
            "accepts them, `off` only sums the call up; without a language model nothing is"
        ),
    )
    agent_name: Annotated[str, BeforeValidator(check.agent_name)] = Field(
        "lkmongo-agent",
        alias="LKMONGO_AGENT_NAME",
        description="the name under which the agent registers with LiveKit, and which tokens dispatch",
    )
    agent: Annotated[str, check.import_path("Class")] | None = Field(
        None,
        alias="LKMONGO_AGENT",
        description="your own agent class, `package.module:Class`",
        examples=["the assistant that comes with lkmongo"],
    )
    instructions: Path | None = Field(
        None,
        alias="LKMONGO_INSTRUCTIONS",
        description="a file with instructions for the agent",
        examples=["the assistant's"],
    )
    web_keys: Annotated[SecretStr, BeforeValidator(check.web_keys)] | None = Field(
        None,
        alias="LKMONGO_WEB_KEYS",
        description=(
            "keys for the cookies of `lkmongo web`, separated by commas: "
            "the first one signs, the others are still accepted"
        ),
        examples=["generated once, in a file under LKMONGO_HOME"],
    )
    web_auth: Annotated[str, check.import_path("callable")] | None = Field(
        None,
        alias="LKMONGO_WEB_AUTH",
        description="your own login for `lkmongo web`, `package.module:callable`: returns who sent a request",
        examples=["every visitor is a guest"],
    )
    web_origins: Annotated[str, BeforeValidator(check.origins)] | None = Field(
        None,
        alias="LKMONGO_WEB_ORIGINS",
        description=(
            "origins that may use `lkmongo web`, separated by commas: its own public origin and those of other pages"
        ),
        examples=["the same origin only"],
    )
    webhook_url: Annotated[SecretStr, BeforeValidator(check.webhook_url)] | None = Field(
        None,
        alias="LKMONGO_WEBHOOK_URL",
        description="who is told of the end of each session, by a signed POST request: an `https://` address",
        examples=["nobody is told"],
    )
    webhook_secret: Annotated[SecretStr, BeforeValidator(check.webhook_secret)] | None = Field(
        None,
        alias="LKMONGO_WEBHOOK_SECRET",
        description="what these requests are signed with: `whsec_` and 24 to 64 random bytes in base64",
        examples=["LKMONGO_WEBHOOK_URL is an error"],
    )
    home: Path | None = Field(
        None,
        alias="LKMONGO_HOME",
        description="folder for the data that lkmongo keeps on this machine",
        examples=["the platform's data folder"],
    )
    linger: Annotated[timedelta, BeforeValidator(check.linger)] | None = Field(
        None,
        alias="LKMONGO_LINGER",
        description="how long the embedded mongod keeps running after the last command, such as `10m` or `0`",
        examples=["`60s` for commands on a terminal, else `0`; `0` where `CI` is set"],
    )
    otlp_endpoint: HttpUrl | None = Field(
        None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where to send OpenTelemetry traces of database operations and tools",
        examples=["no traces"],
    )
    telemetry_allow_pii: Switch = Field(
        False,
        alias="LIVEKIT_TELEMETRY_ALLOW_PII",
        description="include speech and the arguments of tools in traces: `on` or `off`",
        examples=["off"],
    )
    output: Literal["table", "plain", "json", "jsonl"] | None = Field(
        None,
        alias="LKMONGO_OUTPUT",
        description="output format: `table`, `plain`, `json` or `jsonl`",
        examples=["`table` on a terminal, else `plain`"],
    )
    debug: Switch = Field(False, alias="LKMONGO_DEBUG", description="show tracebacks: `on` or `off`", examples=["off"])

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _unknown: tuple[str, ...] = PrivateAttr(default=())
    _is_ci: bool = PrivateAttr(default=False)
    _in_github: bool = PrivateAttr(default=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default `os.environ`); `sources` names the dotenv file of each.

        Raises:
            SettingsError: a value is invalid; the message names the variable and the accepted values.
        """
        settings, problems = cls.load_what_fits(environ, sources)
        for error in problems.values():
            raise error
        return settings

    @classmethod
    def load_what_fits(
        cls, environ: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None
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
        try:
            checked = type(self).model_validate(given)
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
    def secrets(self) -> list[str]:
        """The values to `redact` everywhere."""
        values = [value.get_secret_value() for value in self.__dict__.values() if isinstance(value, SecretStr)]
        for uri in list(values):
            if match := re.match(r"mongodb(?:\+srv)?://[^@/:]*:([^@/]+)@", uri):
                values += [match.group(1), unquote(match.group(1))]
        return values + (self.web_keys.get_secret_value().split(",") if self.web_keys else [])

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
        return LiveKitCredentials(self.livekit_url, self.livekit_api_key, self.livekit_api_secret)

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
