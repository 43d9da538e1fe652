"""`lkmongo sessions`: list, read, search and count sessions."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.after_end import Delivery, Learning
from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import Format, counted, visible
from lkmongo.model import DEFAULT_TENANT, SessionRecord, SessionStatus, Turn, TurnTotals, UserScope
from lkmongo.speech.choose import speech_in_words
from lkmongo.store.sessions.transcript import SLOW, Line, clock, lines, who
from lkmongo.times import Since, Until, span
from lkmongo.trust import call_in_words

if TYPE_CHECKING:
    from lkmongo.store.open import Store
    from lkmongo.store.sessions.listing import SessionFilter
    from lkmongo.store.sessions.search import Found


def turn_fields(record: SessionRecord, turns: Sequence[Turn], slow: float) -> list[dict[str, Any]]:
    """The stored fields of each turn, with its offset in the session and its slow timings."""
    return [
        asdict(turn)
        | {"offset_seconds": line.offset / timedelta(seconds=1) if line.offset is not None else None}
        | {"slow": list(line.slow)}
        for turn, line in zip(turns, lines(turns, record.started_at, slow=slow), strict=True)
    ]


def transcript(
    record: SessionRecord, turns: Sequence[Turn], refused: Mapping[str, int], slow: float, *, fit: bool
) -> Iterator[str]:
    """The lines of the transcript; with `fit` they are wrapped to the terminal's width."""
    said = list(lines(turns, record.started_at, slow=slow))
    late = [f"{clock(line.offset)} {wait}".lstrip() for line in said for wait in line.slow]
    totals = record.totals or TurnTotals()
    facts = {
        "person": f"{record.scope.user_id} in tenant {record.scope.tenant_id}",
        "room": record.room_name,
        "status": ", ".join(dict.fromkeys(filter(None, (record.status, record.close_reason)))),
        "waited for": record.agent if record.status == SessionStatus.NO_AGENT else None,
        "started": _local(record.started_at),
        "length": clock(record.length),
        "turns": str(totals.turns) + (f", {totals.tool_errors} failed" if totals.tool_errors else ""),
        "consent": _consent(record.report.get("consent")),
        "speech": speech_in_words(record.report.get("speech")),
        "telephone": call_in_words(record.report.get("phone")),
        "about": record.summary.text if record.summary else None,
        "topics": ", ".join(record.summary.topics) if record.summary else None,
        "still open": "; ".join(each.text for each in record.summary.open) if record.summary else None,
        "refused": ", ".join(f"{number:,} by the limit of {name}" for name, number in refused.items()) or None,
        "webhook": _webhook(record.webhook),
        "learned": _learned(record.learning),
        "redacted": ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(record.redacted.items())),
        f"slow (≥ {slow:g} s)": "; ".join(late) or "nothing that was measured",
    }
    yield f"Session {record.session_id}"
    width = shutil.get_terminal_size().columns if fit else 0
    names = max(len(name) for name in facts)
    for name, value in facts.items():
        if value:  # ids are not wrapped
            yield from _wrapped(f"  {name:<{names}}  ", value, width if name.startswith("slow") else 0)
    yield ""
    offsets = max((len(clock(line.offset)) for line in said), default=0)
    speakers = max((len(visible(line.who)) for line in said), default=0)
    for line in said:
        yield from _line(line, offsets, min(speakers, 12), width)


_REFUSED = ("messages", "changes", "slots", "bytes")


def _limits(report: Mapping[str, Any]) -> dict[str, int]:
    """How often what the caller wanted was more than they may, by the limit."""
    found = report.get("limits")
    return {name: n for name in _REFUSED if isinstance(n := found.get(name), int)} if isinstance(found, dict) else {}


def _consent(given: object) -> str | None:
    if not isinstance(given, dict):
        return None
    at, by = given.get("at"), given.get("by")
    when = f" {_local(at)}, by {by}, wording {given.get('wording')}" if isinstance(at, datetime) else ""
    kept = "" if given.get("state") in {"agreed", "withdrawn"} else ": nothing of this session was kept"
    return f"{given.get('state')}{when}{kept}"


def _webhook(delivery: Delivery | None) -> str | None:
    if delivery is None:
        return None
    tries = counted(delivery.attempts, "attempt")
    answer = f", {delivery.answer}" if delivery.answer else ""
    if delivery.delivered_at:
        return f"delivered {_local(delivery.delivered_at)}, {tries}"
    if delivery.gave_up_at:
        return f"given up {_local(delivery.gave_up_at)}, {tries}{answer}"
    return f"pending, {tries}{answer}; next not before {_local(delivery.due_at)}"


def _learned(learning: Learning | None) -> str | None:
    if learning is None:
        return None
    tries = counted(learning.attempts, "attempt")
    why = f", {learning.failure}" if learning.failure else ""
    if learning.gave_up_at:
        return f"nothing, given up {_local(learning.gave_up_at)}, {tries}{why}"
    if not learning.learned_at:
        return f"pending, {tries}{why}; next not before {_local(learning.due_at)}"
    counts = [f"{number} {state}" for state, number in learning.counts.items()]
    labels = ", ".join(dict.fromkeys(learning.labels("stored", "accepted", "suggested")))
    return f"{', '.join(counts) or 'no facts'}{f' ({labels})' if labels else ''}"


def _local(moment: datetime | None) -> str | None:
    return moment.astimezone().isoformat(sep=" ", timespec="seconds") if moment else None


def _line(line: Line, offsets: int, speakers: int, width: int) -> Iterator[str]:
    head = f"{clock(line.offset):>{offsets}}  {line.who:<{speakers}}  "
    yield from _wrapped(head, line.text, width)
    if line.notes:
        yield from _wrapped(" " * len(head), f"[{', '.join(line.notes)}]", width)


def _wrapped(head: str, text: str, width: int) -> Iterator[str]:
    """`text` behind `head`, and wrapped lines indented to where it starts."""
    head, indent = visible(head, one_line=True), " " * len(head)
    for number, part in enumerate(visible(text).split("\n")):
        before = indent if number else head
        if width > len(indent) + 20:
            yield from textwrap.wrap(
                part,
                width,
                initial_indent=before,
                subsequent_indent=indent,
                break_on_hyphens=False,
                break_long_words=False,
            ) or [before.rstrip()]
        else:
            yield (before + part).rstrip()


app = typer.Typer(
    name="sessions",
    help="Recorded sessions: list, read, search, count, export and recover them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TenantOrAll = Annotated[
    str | None,
    typer.Option("--tenant", help=f"Id of the tenant; by default {DEFAULT_TENANT}.", show_default=False),
]
AllTenants = Annotated[bool, typer.Option("--all-tenants", help="Of every tenant.")]
Person = Annotated[str | None, typer.Option("--user", help="Id of one user; by default all users.")]
Status = Annotated[SessionStatus | None, typer.Option("--status", help="Only sessions with this status.")]
_STATS_OF = timedelta(days=30)
_COLUMNS = (
    *("session_id", "tenant_id", "user_id", "status", "started_at"),
    *("length", "turns", "failed", "slowest"),
)
_FIELDS = (
    *("session_id", "tenant_id", "user_id", "room_name", "status", "started_at", "ended_at", "close_reason"),
    *("length_seconds", "last_turn_at", "turns", "tool_errors", "slowest", "summary", "topics"),
)

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]


def session_filter(
    *,
    tenant: str | None,
    all_tenants: bool,
    user: str | None,
    since: str | None = None,
    until: str | None = None,
    **more: Any,
) -> SessionFilter:
    """The sessions that the options select.

    Raises:
        UsageError: the options contradict each other, or a time cannot be read.
        InvalidIdError: an id is not valid.
    """
    from lkmongo.errors import UsageError
    from lkmongo.store.sessions.listing import SessionFilter

    if all_tenants and tenant is not None:
        raise UsageError("--tenant and --all-tenants contradict each other", hint="leave one of them out")
    start, end = span(since, until)
    tenant_id = None if all_tenants else tenant if tenant is not None else DEFAULT_TENANT
    return SessionFilter(tenant_id=tenant_id, user_id=user, since=start, until=end, **more)


async def whose(store: Store, wanted: SessionFilter) -> list[UserScope] | str | None:
    """Who is asked for, for the audit trail: a person, in each tenant that knows them, or a tenant, or all of them."""
    if wanted.user_id is None:
        return wanted.tenant_id
    from lkmongo.store.people.person import is_known

    tenants = await store.users.tenants() if wanted.tenant_id is None else [wanted.tenant_id]
    scopes = [UserScope(tenant_id=each, user_id=wanted.user_id) for each in tenants]
    return [scope for scope in scopes if wanted.tenant_id is not None or await is_known(store.db, scope)]


@command(app, "list", data=True, audited=True)
async def list_(
    cli: Cli,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    min_length: Annotated[
        str | None, typer.Option("--min-length", metavar="LENGTH", help="Ended, and at least this long: 90s, 5m, 1h.")
    ] = None,
    max_length: Annotated[
        str | None, typer.Option("--max-length", metavar="LENGTH", help="Ended, and at most this long.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """List sessions, newest first.

    Who, when, how long, how many turns, how many tool errors, and the longest wait for an answer.
    """
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.sessions import listing
    from lkmongo.times import parse_duration

    wanted = session_filter(
        tenant=tenant,
        all_tenants=all_tenants,
        user=user,
        since=since,
        until=until,
        status=status,
        min_length=parse_duration(min_length) if min_length is not None else None,
        max_length=parse_duration(max_length) if max_length is not None else None,
    )
    async with open_store(cli.settings) as store:
        found = await listing.newest(store.db, wanted, limit=limit)
        count = await listing.count(store.db, wanted) if len(found) == limit else len(found)
        if not found:
            await require_known(store.db, user_id=wanted.user_id, tenant_id=wanted.tenant_id)
        await cli.audit(store, await whose(store, wanted), {"sessions": len(found)})
    fields = _fields if cli.output.is_json else _cells
    columns = [name for name in (_FIELDS if cli.output.is_json else _COLUMNS) if all_tenants or name != "tenant_id"]
    cli.output.rows(columns, map(fields, found), empty="There are no such sessions")
    if count > len(found) and not cli.output.is_json:
        more = f"more than {listing.COUNTED:,}" if count == listing.COUNTED else f"{count:,}"
        cli.output.note(f"showing the newest {len(found):,} of {more}; see others with --limit, --since and --until")


@command(app, "show", data=True, audited=True)
async def show(
    cli: Cli,
    session_id: Annotated[
        str, typer.Argument(metavar="SESSION", help="Id of the session, see `sessions list`.", show_default=False)
    ],
    user: Person = None,
    tenant: TenantOrAll = None,
    slow: Annotated[
        float, typer.Option("--slow", min=0.0, metavar="SECONDS", help="Seconds from which a wait counts as slow.")
    ] = SLOW,
) -> None:
    """Show a session as a transcript.

    Who said what when, tool calls, timings, and the moments that were slow.
    """
    from lkmongo.store.open import open_store
    from lkmongo.store.sessions import listing

    wanted = session_filter(tenant=tenant, all_tenants=False, user=user)
    async with open_store(cli.settings) as store:
        record = await listing.find(store.db, wanted, session_id)
        turns = await store.sessions.turns(record.scope, record.session_id)
        await cli.audit(store, record.scope, {"sessions": 1, "turns": len(turns)})
    refused = _limits(record.report)
    if cli.output.is_json:
        webhook = asdict(record.webhook) | {"state": record.webhook.state} if record.webhook else None
        learning = asdict(record.learning) | {"state": record.learning.state} if record.learning else None
        more = {
            "refused": refused,
            **{name: record.report.get(name) for name in ("consent", "phone", "speech")},
            "commitments": [asdict(each) for each in record.summary.commitments] if record.summary else [],
            "webhook": webhook,
            "learning": learning,
            "redacted": record.redacted,
        }
        cli.output.event(_fields(record) | more | {"turns": turn_fields(record, turns, slow)})
        return
    for line in transcript(record, turns, refused, slow, fit=cli.output.format is Format.TABLE):
        cli.output.say(line)


@command(app, "search", data=True, audited=True)
async def search(
    cli: Cli,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, in any case.", show_default=False)],
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    meaning: Annotated[
        bool, typer.Option("--meaning", help="Search the summaries of one user's sessions, by meaning and by words.")
    ] = False,
) -> None:
    """Search what was said in sessions, and what tools were given and returned.

    The newest comes first, with the match in double brackets. No index helps with a substring, so this reads turn after
    turn: narrow it with --since or --user if there are many.

    With --meaning, which needs --user, the best match comes first, and "in October" in TEXT means that month.
    """
    from lkmongo.cli.progress import watched
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.sessions.search import search as find

    wanted = session_filter(tenant=tenant, all_tenants=all_tenants, user=user, since=since, until=until)
    if meaning:
        await _search_summaries(cli, wanted, text, limit)
        return
    async with open_store(cli.settings) as store:
        with watched("Searching") as tell:
            found = await find(
                store.db, wanted, text, limit=limit, on_progress=lambda to: tell(f"back to {to:%Y-%m-%d %H:%M}")
            )
        if not found:
            await require_known(store.db, user_id=wanted.user_id, tenant_id=wanted.tenant_id)
        await cli.audit(store, await whose(store, wanted), {"turns": len(found)})
    columns = ["session_id", *(["tenant_id"] if all_tenants else []), "user_id", "created_at", "who", "snippet"]
    columns += ["seq", "text", "start", "end"] if cli.output.is_json else []
    cli.output.rows(columns, map(_match, found), empty=f"No turn contains {text!r}")
    if len(found) == limit and not cli.output.is_json:
        cli.output.note(f"showing the newest {limit:,}; see others with --limit and --until")


async def _search_summaries(cli: Cli, wanted: SessionFilter, text: str, limit: int) -> None:
    import asyncio

    from lkmongo.cli.search_view import warm
    from lkmongo.embed.choose import open_embedder
    from lkmongo.errors import UsageError
    from lkmongo.model import UserScope, clean_query, now
    from lkmongo.search.past_calls import past_calls
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known

    if wanted.user_id is None or wanted.tenant_id is None:
        raise UsageError("--meaning searches the sessions of one user", hint="name the user with --user")
    scope = UserScope(tenant_id=wanted.tenant_id, user_id=wanted.user_id)
    async with open_embedder(cli.settings) as embedder, open_store(cli.settings, on_status=cli.output.note) as store:
        await asyncio.gather(store.ping(), warm(embedder))
        found = await past_calls(
            store.summaries,
            scope,
            clean_query(text),
            embedder,
            today=now().astimezone(),
            since=wanted.since,
            until=wanted.until,
            limit=limit,
        )
        if not found.calls:
            await require_known(store.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
        await cli.audit(store, scope, {"summaries": len(found.calls)})
    if found.degraded:
        cli.output.warn(found.degraded)
    rows = (
        {
            "session_id": call.session_id,
            "started_at": call.started_at,
            "summary": call.summary.text,
            "topics": ", ".join(call.summary.topics),
            "open": "; ".join(each.text for each in call.summary.open),
        }
        for call in found.calls
    )
    cli.output.rows(["session_id", "started_at", "summary", "topics", "open"], rows, empty="No session was about that")


@command(app, "stats", data=True)
async def stats(
    cli: Cli,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    until: Until = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write one self-contained page with charts; - is stdout.", show_default=False
        ),
    ] = None,
) -> None:
    """Count sessions, turns, waits, tools and failures.

    In total and for each day in UTC, over the last 30 days, or the 30 days before --until, unless --since is given. p50
    and p95: half of the waits, and 95 percent of them, were no longer.
    """
    from lkmongo.cli import stats as stats_text
    from lkmongo.cli.progress import rate
    from lkmongo.errors import UsageError
    from lkmongo.model import now
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.sessions.stats import SessionStats

    if html == Path("-") and cli.asked:
        raise UsageError("--html - and another format would both go to stdout", hint="leave one of them out")
    wanted = session_filter(tenant=tenant, all_tenants=all_tenants, user=user, since=since, until=until)
    if since is None:
        end = max(wanted.until or now(), datetime.min.replace(tzinfo=UTC) + _STATS_OF)
        wanted = replace(wanted, since=end - _STATS_OF)
    async with open_store(cli.settings) as store:
        with rate("Reading", "turns") as tell:
            found = await SessionStats(store.db, wanted).read(lambda turns: tell(counted(turns, "turn"), turns))
        if not found.total.sessions:
            await require_known(store.db, user_id=wanted.user_id, tenant_id=wanted.tenant_id)
    if html is not None:
        from lkmongo.files import whole_file

        if html == Path("-"):
            cli.output.write(stats_text.page(found, wanted, now()))
            return
        with whole_file(html) as write:
            write(stats_text.page(found, wanted, now()).encode())
        cli.output.note(f"wrote {html}")
    if cli.output.is_json:
        cli.output.event(stats_text.as_fields(found, wanted))
    elif cli.output.format is Format.PLAIN:
        cli.output.rows(*stats_text.plain_rows(found))
    else:
        for title, columns, rows in stats_text.tables(found, wanted):
            cli.output.say(title)
            cli.output.rows(columns, rows)


def _fields(record: SessionRecord) -> dict[str, Any]:
    length = record.length
    return {
        "session_id": record.session_id,
        "tenant_id": record.scope.tenant_id,
        "user_id": record.scope.user_id,
        "room_name": record.room_name,
        "status": record.status,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "close_reason": record.close_reason,
        **asdict(record.totals or TurnTotals()),
        "length_seconds": length / timedelta(seconds=1) if length is not None else None,
        "summary": record.summary.text if record.summary else None,
        "topics": list(record.summary.topics) if record.summary else [],
    }


def _cells(record: SessionRecord) -> dict[str, Any]:
    totals = record.totals or TurnTotals()
    return {
        "session_id": record.session_id,
        "tenant_id": record.scope.tenant_id,
        "user_id": record.scope.user_id,
        "status": record.status,
        "started_at": record.started_at,
        "length": clock(record.length),
        "turns": totals.turns,
        "failed": totals.tool_errors,
        "slowest": f"{totals.slowest:.2f} s" if totals.slowest is not None else None,
    }


def _match(found: Found) -> dict[str, Any]:
    return {
        "session_id": found.session.session_id,
        "tenant_id": found.session.scope.tenant_id,
        "user_id": found.session.scope.user_id,
        "created_at": found.turn.created_at,
        "who": who(found.turn),
        "snippet": found.snippet,
        "seq": found.turn.seq,
        "text": found.text,
        "start": found.start,
        "end": found.end,
    }
