"""What a tenant says of its telephone: the numbers that lead to it, and how far a caller's number is trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from lkmongo import setting_checks as check
from lkmongo.errors import InvalidTextError, SettingsError
from lkmongo.model import slot_name
from lkmongo.phone_numbers import PhoneNumberError, parse_number
from lkmongo.trust import Level, Needs


def _in_quotes(value: Any) -> Any:
    if isinstance(value, int):  # the plus is gone, and a leading zero may have made it octal
        raise ValueError("must be in quotation marks, since YAML takes it for an amount otherwise")  # noqa: TRY004
    return value


def _label(value: Any) -> Any:
    try:
        slot_name(str(value))
    except InvalidTextError as error:
        raise ValueError(f"must be a label or the name of a tool: {error.message}") from error
    return str(value)


def _once(levels: Mapping[str, Level]) -> Mapping[str, Level]:
    if len({slot_name(each) for each in levels}) < len(levels):
        raise ValueError("one label is there in two spellings")
    return levels


def _level(value: Any) -> Any:
    return value if isinstance(value, Level) else Level.of(str(value))


class TenantPhone(BaseModel):
    """How a tenant is called, and what its callers by telephone may."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    numbers: tuple[Annotated[str, BeforeValidator(_in_quotes)], ...] = ()
    """Of the trunk: who dials one of them is the tenant's caller. In E.164, once the file is loaded."""
    region: Annotated[str, BeforeValidator(check.region)] | None = None
    """The country of numbers that name none, of these and of callers; by default LKMONGO_PHONE_REGION."""
    levels: Annotated[
        Mapping[Annotated[str, BeforeValidator(_label)], Annotated[Level, BeforeValidator(_level)]],
        AfterValidator(_once),
    ] = Field(default_factory=dict)
    """The trust that a slot, a profile field or a tool needs, `default` that of all other slots; see `Needs`."""
    recycled_after: Annotated[timedelta, BeforeValidator(check.days)] = check.RECYCLED_AFTER
    """How long a number may be unused until it may be somebody else's; by default LKMONGO_PHONE_RECYCLED_AFTER."""

    @property
    def needs(self) -> Needs:
        """The trust that each slot, profile field and tool needs."""
        # A label in any spelling is that slot; the name of a tool is what it is.
        return Needs({slot_name(each): level for each, level in self.levels.items()} | dict(self.levels))


def merged(default: TenantPhone, own: TenantPhone) -> TenantPhone:
    """The default with what a tenant says itself; of `levels`, one by one. Numbers are nobody's by default."""
    said = {name: getattr(own, name) for name in own.model_fields_set}
    ours = {slot_name(each) for each in own.levels}
    inherited = {each: level for each, level in default.levels.items() if slot_name(each) not in ours}
    said["levels"] = {**inherited, **own.levels}
    said["numbers"] = own.numbers
    return default.model_copy(update=said)


def in_e164(phones: Iterable[tuple[str, TenantPhone]], file: str) -> dict[str, TenantPhone]:
    """The same by the tenant's id, with each number in its one form.

    Args:
        phones: of each tenant, by its id.
        file: as messages name it.

    Raises:
        SettingsError: one is no telephone number, or that of two tenants.
        MissingExtraError: there are numbers, and the extra `phone` is not installed.
    """
    found: dict[str, TenantPhone] = {}
    owners: dict[str, str] = {}
    for tenant_id, phone in phones:
        numbers = []
        for position, written in enumerate(phone.numbers):
            place = f"{file}: tenants.{tenant_id}.phone.numbers.{position}"
            try:
                number = parse_number(written, phone.region)
            except PhoneNumberError as error:
                wrong = f"{place}: {written} is not a telephone number"
                raise SettingsError(wrong, why=error.why, hint=_HINT) from None
            if ";ext=" in number.text:
                raise SettingsError(f"{place}: {written} has an extension", why="a trunk has none", hint="leave it out")
            other = owners.setdefault(number.text, tenant_id)
            if other != tenant_id:
                raise SettingsError(
                    f"{place}: {written} is the number of {other} as well",
                    why="who dials it could be the caller of either",
                    hint="leave it with one tenant",
                )
            numbers.append(number.text)
        found[tenant_id] = phone.model_copy(update={"numbers": tuple(dict.fromkeys(numbers))})
    return found


_HINT = "write it as +49 30 1234567, or give its country: `region: DE` beside it, or LKMONGO_PHONE_REGION"
