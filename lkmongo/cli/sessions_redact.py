"""`lkmongo sessions redact`: what is stored already, under the policy as it is now."""

from __future__ import annotations

from collections.abc import Mapping

from lkmongo.cli.command import Cli, DryRun, Yes, command
from lkmongo.cli.output import counted
from lkmongo.cli.sessions import AllTenants, Person, TenantOrAll, app, session_filter
from lkmongo.cli.sessions import whose as audited_scope
from lkmongo.times import Since


@command(app, "redact", data=True, audited=True)
async def redact(
    cli: Cli,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Redact what is stored already, of earlier releases or under a policy that kept more.

    Transcripts, summaries and what was learned of sessions; memories, their history and the profiles of the same
    people. --since leaves out sessions that began earlier, and memories that were changed earlier. What becomes of each
    kind of secret and personal data, LKMONGO_TENANTS says. It cannot be undone.

    Sessions in progress are passed over. Stopped and run again, it goes on. It says how many of each kind were
    found, never what. Vectors of texts that change are dropped: `db embed` makes others.
    """
    from lkmongo.cli.progress import rate
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.redact_stored import redact_stored
    from lkmongo.store.sessions import listing

    wanted = session_filter(tenant=tenant, all_tenants=all_tenants, user=user, since=since)
    whose = f"of {user} " if user else ""
    where = "of every tenant" if wanted.tenant_id is None else f"in tenant {wanted.tenant_id}"
    async with open_store(cli.settings) as store:
        if user is not None:
            await require_known(store.db, user_id=user, tenant_id=wanted.tenant_id)
        count = await listing.count(store.db, wanted)
        if not dry_run:
            cli.confirm(f"Redact what is stored {whose}{where}? It cannot be undone.", yes=yes)
        await cli.audit(store, await audited_scope(store, wanted), {"sessions": count})
        with rate("Redacting", "sessions") as tell:
            done = await redact_stored(
                store,
                wanted,
                dry_run=dry_run,
                on_progress=lambda done: tell(counted(done.sessions, "session"), done.sessions),
            )
    if done.in_progress:
        cli.output.note(f"{counted(done.in_progress, 'session')} in progress: run it again when they have ended")
    fields = {
        "tenant_id": wanted.tenant_id,
        "user_id": user,
        "dry_run": dry_run,
        "sessions": done.sessions,
        "in_progress": done.in_progress,
        "changed": {name: count for name, count in done.documents.items() if count},
        "redacted": dict(done.counts),
    }
    cli.output.record(fields, _sentence(done.documents, done.counts, dry_run=dry_run))


def _sentence(documents: Mapping[str, int], counts: Mapping[str, int], *, dry_run: bool) -> str:
    if not counts:
        return "Nothing to redact"
    found = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items()))
    where = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(documents.items()) if count)
    return f"{'Would redact' if dry_run else 'Redacted'} {found} in {where}"
