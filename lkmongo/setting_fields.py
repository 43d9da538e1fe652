"""Every setting: its variable, what it accepts, its meaning, and what holds without it.

`lkmongo.settings` reads them; the tables of docs/settings.md and .env.example are made of them.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from lkmongo import setting_checks as check
from lkmongo.after_end import Mode

Fusion = Literal["ranks", "scores"]
"""How the two branches of a search become one result."""
Switch = Annotated[bool, BeforeValidator(check.switch)]
HttpUrl = Annotated[str, check.url("http", "https")]
SttAddress = Annotated[str, check.server_address("http://localhost:8000/v1", "LKMONGO_STT_API_KEY")]
TtsAddress = Annotated[str, check.server_address("http://localhost:8880/v1", "LKMONGO_TTS_API_KEY")]


class Fields(BaseModel):
    """The value of each variable, checked; `examples` says what holds where the default does not say it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=False)

    livekit_url: Annotated[str, check.url("ws", "wss", "http", "https")] | None = Field(
        None, alias="LIVEKIT_URL", description="address of the LiveKit server", examples=["text console only"]
    )
    livekit_api_key: str | None = Field(None, alias="LIVEKIT_API_KEY", description="key of the LiveKit project")
    livekit_api_secret: SecretStr | None = Field(
        None, alias="LIVEKIT_API_SECRET", description="secret of the LiveKit project"
    )
    previous_secrets: Annotated[SecretStr, BeforeValidator(check.previous_secrets)] | None = Field(
        None,
        alias="LKMONGO_PREVIOUS_SECRETS",
        description="earlier LIVEKIT_API_SECRETs, separated by commas: what they have sealed is still accepted",
        examples=["none"],
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
    embedding_base_url: (
        Annotated[str, check.server_address("http://localhost:11434/v1", "LKMONGO_EMBEDDING_API_KEY")] | None
    ) = Field(
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
    speech: Literal["auto", "inference", "local", "off"] = Field(
        "auto",
        alias="LKMONGO_SPEECH",
        description=(
            "who hears and speaks: LiveKit `inference`, this machine (`local`: English, extra `voice`), nobody "
            "(`off`), or `auto`: LiveKit Inference if it is set up, else this machine if it can"
        ),
    )
    stt_base_url: SttAddress | None = Field(
        None,
        alias="LKMONGO_STT_BASE_URL",
        description="a server that recognises speech with OpenAI's API, such as speaches, vLLM or LocalAI",
        examples=["as LKMONGO_SPEECH says"],
    )
    stt_api_key: SecretStr | None = Field(
        None, alias="LKMONGO_STT_API_KEY", description="key of that server, if it needs one", examples=["none"]
    )
    stt: Annotated[str, check.speech_models("language", "deepgram/nova-3:multi", server="stt_base_url")] = Field(
        "deepgram/nova-3:multi",
        alias="LKMONGO_STT",
        description=(
            "speech recognition: a LiveKit Inference string, then any fallbacks, separated by commas; "
            "or the model at LKMONGO_STT_BASE_URL, `model` or `model:language`"
        ),
    )
    llm: Annotated[str, BeforeValidator(check.model_names)] = Field(
        "openai/gpt-5.3-chat-latest",
        alias="LKMONGO_LLM",
        description=(
            "language model: a LiveKit Inference string, or the name of a model at LKMONGO_LLM_BASE_URL, "
            "then any fallbacks, separated by commas"
        ),
    )
    tts_base_url: TtsAddress | None = Field(
        None,
        alias="LKMONGO_TTS_BASE_URL",
        description="a server that speaks with OpenAI's API, such as Kokoro-FastAPI, speaches or LocalAI",
        examples=["as LKMONGO_SPEECH says"],
    )
    tts_api_key: SecretStr | None = Field(
        None, alias="LKMONGO_TTS_API_KEY", description="key of that server, if it needs one", examples=["none"]
    )
    tts: Annotated[str, check.speech_models("voice", "cartesia/sonic-3", server="tts_base_url")] = Field(
        "cartesia/sonic-3:9626c31c-bec5-4cca-baa8-f8ba9e84c8bc",
        alias="LKMONGO_TTS",
        description=(
            "the agent's voice: a LiveKit Inference string, then any fallbacks, separated by commas; "
            "or the model at LKMONGO_TTS_BASE_URL, `model` or `model:voice`"
        ),
    )
    vad: Literal["bundled", "silero"] = Field(
        "bundled", alias="LKMONGO_VAD", description="voice activity detection: `bundled` or `silero`"
    )
    turn_detection: Literal["bundled", "multilingual"] = Field(
        "bundled",
        alias="LKMONGO_TURN_DETECTION",
        description=("end-of-turn detection: `bundled`, or `multilingual` after `lkmongo agent download-files`"),
    )
    endpointing: check.Endpointing = Field(
        check.ENDPOINTING,
        alias="LKMONGO_ENDPOINTING",
        description="seconds of silence that end a caller's turn, and that end one that seems unfinished",
        examples=["`{:g},{:g}`, elsewhere `{:g},{:g}`".format(*check.ENDPOINTING, *check.LIVEKIT_ENDPOINTING)],
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
    sip_trunk: Annotated[str, BeforeValidator(check.sip_trunk)] | None = Field(
        None,
        alias="LKMONGO_SIP_TRUNK",
        description="LiveKit's id of the outbound trunk that `lkmongo call` dials by, such as `ST_AbCdEf123456`",
        examples=["`--trunk`"],
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
    web_proxies: Annotated[str, BeforeValidator(check.proxies)] | None = Field(
        None,
        alias="LKMONGO_WEB_PROXIES",
        description=(
            "proxies in front of `lkmongo web` that are trusted to say who asks: how many in a row, "
            "or their addresses and networks, separated by commas"
        ),
        examples=["who connects is who asks"],
    )
    web_name: Annotated[str, check.line(60)] | None = Field(
        None,
        alias="LKMONGO_WEB_NAME",
        description="the name on the talk page of `lkmongo web`, up to 60 characters",
        examples=["the page's own"],
    )
    web_color: Annotated[str, BeforeValidator(check.color)] | None = Field(
        None,
        alias="LKMONGO_WEB_COLOR",
        description="the talk page's color for buttons and the like, `#rrggbb`; the text on it is black or white",
        examples=["the page's own"],
    )
    web_logo: Annotated[Path, BeforeValidator(check.logo)] | None = Field(
        None,
        alias="LKMONGO_WEB_LOGO",
        description="a file with the talk page's logo: .svg, .png or .webp, up to 200 KB",
        examples=["no logo"],
    )
    web_greeting: Annotated[str, check.line(200)] | None = Field(
        None,
        alias="LKMONGO_WEB_GREETING",
        description="the sentence with which the talk page begins, up to 200 characters",
        examples=["the page's own"],
    )
    web_examples: Annotated[str, BeforeValidator(check.examples)] | None = Field(
        None,
        alias="LKMONGO_WEB_EXAMPLES",
        description="what visitors of the talk page could say first: up to 4 sentences with `|` between",
        examples=["the page's own"],
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
    encryption: Literal["off", "local", "aws", "azure", "gcp", "kmip"] = Field(
        "off",
        alias="LKMONGO_ENCRYPTION",
        description=(
            "what people said is encrypted under a key of each person, which a master key wraps: one in a file "
            "(`local`), or in a KMS (`aws`, `azure`, `gcp`, `kmip`); `off` encrypts nothing"
        ),
    )
    encryption_key_file: Path | None = Field(
        None,
        alias="LKMONGO_ENCRYPTION_KEY_FILE",
        description="for `local`: the file with the master key, 96 bytes in base64; further lines only decrypt",
        examples=["`encryption.key` under LKMONGO_HOME, which `lkmongo db encrypt` makes"],
    )
    key_vault_uri: Annotated[SecretStr, BeforeValidator(check.mongodb_uri)] | None = Field(
        None,
        alias="LKMONGO_KEY_VAULT_URI",
        description="another MongoDB that keeps people's keys, apart from the data and its backups",
        examples=["the keys are in the database of the data"],
    )
    kms_key: str | None = Field(
        None,
        alias="LKMONGO_KMS_KEY",
        description=(
            "the master key: an ARN of `aws`, an `https://NAME.vault.azure.net/keys/KEY` of `azure`, a "
            "`projects/.../cryptoKeys/KEY` of `gcp`, an id of `kmip`"
        ),
        examples=["an error, except for `local` and `kmip`, which then makes one"],
    )
    kms_credentials: Path | None = Field(
        None,
        alias="LKMONGO_KMS_CREDENTIALS",
        description="a JSON file with what the KMS accepts, such as `accessKeyId` and `secretAccessKey` of `aws`",
        examples=["what the machine has: its role, its managed identity, its service account"],
    )
    kms_endpoint: str | None = Field(
        None,
        alias="LKMONGO_KMS_ENDPOINT",
        description="host and port of the KMS; `kmip` needs it",
        examples=["the provider's public one"],
    )
    kms_ca: Path | None = Field(
        None,
        alias="LKMONGO_KMS_CA",
        description="a PEM file with the authority that the KMS's certificate is checked against",
        examples=["those of the system"],
    )
    kms_certificate: Path | None = Field(
        None,
        alias="LKMONGO_KMS_CERTIFICATE",
        description="a PEM file with the certificate and key that this machine shows a `kmip` server",
        examples=["none is shown"],
    )
    tenants: Path | None = Field(
        None,
        alias="LKMONGO_TENANTS",
        description=(
            "a YAML file with what holds for each tenant: what is redacted, whether consent is asked, limits, "
            "telephone numbers, how its agent speaks"
        ),
        examples=["every tenant is treated alike"],
    )
    phone_region: Annotated[str, BeforeValidator(check.region)] | None = Field(
        None,
        alias="LKMONGO_PHONE_REGION",
        description="country of telephone numbers that name none, as two letters such as `DE`",
        examples=["that of the number that was dialled"],
    )
    phone_recycled_after: Annotated[timedelta, BeforeValidator(check.days)] = Field(
        check.RECYCLED_AFTER,
        alias="LKMONGO_PHONE_RECYCLED_AFTER",
        description="how long a caller's number may be unused until it may be somebody else's, such as `90d`",
        examples=["`180d`"],
    )
    max_messages: check.Count = Field(
        30,
        alias="LKMONGO_MAX_MESSAGES",
        description="how many messages of a caller are answered in a minute; the caller is told when it is too much",
    )
    max_changes: check.Count = Field(
        50,
        alias="LKMONGO_MAX_CHANGES",
        description="how many facts and profile fields may be set in one call; forgetting is always possible",
    )
    max_slots: check.Slots = Field(
        500,
        alias="LKMONGO_MAX_SLOTS",
        description="up to how many memories of one person new ones are taken in a call, at most 10,000",
    )
    max_bytes: check.Size = Field(
        1_000_000,
        alias="LKMONGO_MAX_BYTES",
        description="up to how much text the memories of one person may grow in a call, such as `500KB`",
        examples=["`1MB`"],
    )
    max_calls: check.Count = Field(
        3,
        alias="LKMONGO_MAX_CALLS",
        description="how many calls one person may be in at once; one that is too many is ended after some seconds",
    )
    max_call_length: check.CallLength = Field(
        timedelta(hours=2),
        alias="LKMONGO_MAX_CALL_LENGTH",
        description="how long a call may last, such as `45m`; the caller is told a minute before",
        examples=["`2h`"],
    )
    redactor: Annotated[str, check.import_path("callable")] | None = Field(
        None,
        alias="LKMONGO_REDACTOR",
        description="a detector of your own of what is not to be stored, `package.module:callable`",
        examples=["those that come with lkmongo"],
    )
    erasure_key: Annotated[SecretStr, BeforeValidator(check.erasure_key)] | None = Field(
        None,
        alias="LKMONGO_ERASURE_KEY",
        description=(
            "key that hides the ids of erased people, telephone numbers and PINs, and seals the audit trail, the same "
            "on every machine: at least 32 characters"
        ),
        examples=["the embedded mongod: a file under LKMONGO_HOME; else a secret in the database, and no numbers"],
    )
    operator: Annotated[str, BeforeValidator(check.operator)] | None = Field(
        None,
        alias="LKMONGO_OPERATOR",
        description="who runs commands, for the audit trail; for CI",
        examples=["the login"],
    )
    audit: Literal["on", "reason", "off"] = Field(
        "on",
        alias="LKMONGO_AUDIT",
        description=("whether commands on people's data are recorded: `on`, `reason` (each needs --reason) or `off`"),
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
