"""What is set for each tenant: the policies of the file that LKMONGO_TENANTS names.

That is what holds for its callers, by what telephone number they reach it, and how its agent speaks to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lkmongo import setting_checks as check
from lkmongo.errors import InvalidIdError, SettingsError
from lkmongo.files import instructions_in
from lkmongo.model import check_id
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.tenant_phone import TenantPhone, in_e164, merged
from lkmongo.trust import Needs

MAX_GREETING = 500
"""Characters of a greeting: half a minute of speech."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What callers may, see the settings LKMONGO_MAX_...

    Attributes:
        messages: of a caller, in a minute.
        changes: facts and profile fields that are set, in a call.
        slots: memories of a person, up to which new ones are taken.
        bytes: of text in them, likewise.
        calls: of a person, at once.
        call_length: of one call.
    """

    messages: int = 30
    changes: int = 50
    slots: int = 500
    bytes: int = 1_000_000
    calls: int = 3
    call_length: timedelta = timedelta(hours=2)


class TenantLimits(BaseModel):
    """The limits that a tenant has of its own, as the settings LKMONGO_MAX_... give them for all."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    messages: check.Count | None = None
    changes: check.Count | None = None
    slots: check.Slots | None = None
    bytes: check.Size | None = None
    calls: check.Count | None = None
    call_length: check.CallLength | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set."""
        return self.model_dump(exclude_none=True)


def _not_empty(value: str) -> str:
    text = " ".join(value.split())
    if not 1 <= len(text) <= MAX_GREETING:
        raise ValueError(f"must be words to say, at most {MAX_GREETING} characters")
    return text


class TenantPolicy(BaseModel):
    """What holds for the callers of one tenant; what is not said there is as `default` of the file says it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    consent: Literal["assumed", "ask"] = "assumed"
    """`ask`: nothing of a new caller is stored beyond the call until they agree."""
    show_staff_access: bool = False
    """Callers see on the talk page when staff looked at their data."""
    redaction: Mapping[str, Literal["keep", "mask", "drop"]] = Field(default_factory=dict)
    """What becomes of a kind of personal data before anything is stored, such as `{phone: mask}`; see `POLICY`."""
    limits: TenantLimits = TenantLimits()
    """Instead of those that hold for all, such as `{slots: 2000, call_length: 30m}`."""
    phone: TenantPhone = TenantPhone()
    """The numbers that lead to the tenant, and how far a caller's number is trusted."""
    instructions: str | None = None
    """What the agent is told, instead of LKMONGO_INSTRUCTIONS: in the file, the name of a text file beside it."""
    greeting: Annotated[str, AfterValidator(_not_empty)] | None = None
    """The words with which the agent greets whoever calls."""
    voice: Annotated[str, BeforeValidator(check.voice)] | None = None
    """A voice of the model that LKMONGO_TTS names first, or another model and its voice, as it is written there."""
    language: Annotated[str, BeforeValidator(check.language)] | None = None
    """The tag of the language that the agent speaks and expects, such as `de` or `de-AT`."""


def _tenant_id(value: str) -> str:
    try:
        return check_id("tenant", value)
    except InvalidIdError as error:
        raise ValueError(str(error)) from error


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    default: TenantPolicy = TenantPolicy()
    tenants: dict[Annotated[str, AfterValidator(_tenant_id)], TenantPolicy | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Tenants:
    """The policy of every tenant, by its id."""

    default: TenantPolicy = field(default_factory=TenantPolicy)
    named: Mapping[str, TenantPolicy] = field(default_factory=dict)

    def policy(self, tenant_id: str) -> TenantPolicy:
        """The tenant's own policy, or the default for a tenant that the file does not name."""
        return self.named.get(tenant_id, self.default)

    def asks(self, tenant_id: str) -> bool:
        """Whether nothing is kept of the tenant's callers until they agree."""
        return self.policy(tenant_id).consent == "ask"

    def needs(self, tenant_id: str) -> Needs:
        """The trust that each slot, profile field and tool needs of the tenant's callers by telephone."""
        return self.policy(tenant_id).phone.needs

    def dialled(self, number: PhoneNumber) -> str | None:
        """The id of the tenant that has this number; None if none has it."""
        plain = number.text.partition(";")[0]
        return next((tenant for tenant, policy in self.named.items() if plain in policy.phone.numbers), None)

    @property
    def by_number(self) -> bool:
        """Whether any tenant is reached by numbers of its own."""
        return any(policy.phone.numbers for policy in self.named.values())

    @property
    def some_ask(self) -> bool:
        """Whether any tenant asks."""
        return any(each.consent == "ask" for each in (self.default, *self.named.values()))

    @classmethod
    def load(cls, path: Path | None, phone: TenantPhone | None = None) -> Tenants:
        """Read the file; without one every tenant has the default policy.

        Args:
            path: the file.
            phone: what the settings say for all tenants.

        Raises:
            SettingsError: the file cannot be read, or says what a policy does not know; with its line or field.
            MissingExtraError: it has telephone numbers, and the extra `phone` is not installed.
        """
        for_all = phone or TenantPhone()
        if path is None:
            return cls(TenantPolicy(phone=for_all))
        try:
            content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(f"LKMONGO_TENANTS: {path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            raise SettingsError(f"LKMONGO_TENANTS: {path}{f':{mark.line + 1}' if mark else ''} is not YAML") from None
        if not isinstance(content, dict):
            raise SettingsError(f"LKMONGO_TENANTS: {path} must be a mapping with `default` and `tenants`")
        try:
            file = _File.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            wrong = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"LKMONGO_TENANTS: {path}: {place}: {wrong}") from None
        return cls._of(file, path, for_all)

    @classmethod
    def _of(cls, file: _File, path: Path, for_all: TenantPhone) -> Tenants:
        name = f"LKMONGO_TENANTS: {path}"
        if file.default.phone.numbers:
            raise SettingsError(
                f"{name}: default.phone.numbers: the default has no numbers of its own",
                hint="put them under tenants, and the id of the tenant that they lead to",
            )
        default = file.default.model_copy(update={"phone": merged(for_all, file.default.phone)})
        default = _with_text(default, path, f"{name}: default.instructions")
        named = {
            tenant_id: _merged(default, own and _with_text(own, path, f"{name}: tenants.{tenant_id}.instructions"))
            for tenant_id, own in file.tenants.items()
        }
        phones = in_e164(((tenant_id, policy.phone) for tenant_id, policy in named.items()), name)
        return cls(default, {key: each.model_copy(update={"phone": phones[key]}) for key, each in named.items()})


def _with_text(policy: TenantPolicy, file: Path, place: str) -> TenantPolicy:
    """The policy with the text of its instructions in the place of the name of their file."""
    if policy.instructions is None:
        return policy
    path = file.expanduser().parent / Path(policy.instructions).expanduser()
    return policy.model_copy(update={"instructions": instructions_in(path, place)})


def _merged(default: TenantPolicy, own: TenantPolicy | None) -> TenantPolicy:
    """The default with what a tenant says itself; of `redaction`, `limits` and `phone`, one by one."""
    if own is None:
        return default
    said = {name: getattr(own, name) for name in own.model_fields_set}
    said["redaction"] = {**default.redaction, **own.redaction}
    said["limits"] = default.limits.model_copy(update=own.limits.given)
    said["phone"] = merged(default.phone, own.phone)
    return default.model_copy(update=said)
