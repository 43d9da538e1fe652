"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from lkmongo.model import DEFAULT_TENANT

User = Annotated[str, typer.Argument(metavar="USER", help="Id of the person.", show_default=False)]
Tenant = Annotated[str, typer.Option("--tenant", help="Id of the tenant.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]

__all__ = ["DEFAULT_TENANT", "DryRun", "Tenant", "User", "Yes"]
