"""A collection and a profile field of your own: a hair salon's appointments, with tools, seeds, erase and export."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

from livekit.agents import RunContext, ToolError, function_tool
from pydantic import BaseModel, Field

from lkmongo import Assistant, CallerSession, Collection, ProfileField, with_deadline


class Appointment(BaseModel):
    """One document, without whose it is: lkmongo adds tenant_id and user_id."""

    appointment_id: str
    service: str = Field(max_length=80)
    at: datetime
    status: Literal["booked", "cancelled"] = "booked"


declarations = [
    Collection(
        "appointments",
        owner="person",  # so they are exported, merged and erased with their person
        key=("appointment_id",),
        indexes=["at"],
        document=Appointment,
        seed="appointments.yaml",
        retention=("at", timedelta(days=400)),
    ),
    ProfileField("loyalty_tier", choices=("bronze", "silver", "gold")),
]


class Salon(Assistant):
    """Answers the phone of a hair salon; everything the assistant can do, it can do too."""

    instructions_text = (
        Assistant.instructions_text + "\nYou answer the phone of a hair salon: book, list and cancel appointments."
    )

    @function_tool
    async def book_appointment(self, context: RunContext[CallerSession], service: str, at: str) -> str:
        """Book an appointment for the caller.

        Args:
            service: what for, such as "haircut"
            at: date and time in ISO 8601, such as 2026-12-01T10:00
        """
        number = uuid4().hex[:8]
        document = {"appointment_id": number, "service": service, "at": at}
        # The collection knows the caller: no argument of a tool can reach somebody else's documents.
        await with_deadline(2.0, context.userdata.collection("appointments").insert(document), "book that")
        return f"Booked: {service}, {at}. The number is {number}."

    @function_tool
    async def list_appointments(self, context: RunContext[CallerSession]) -> str:
        """List the caller's appointments, the next one first."""
        booked = context.userdata.collection("appointments").find({"status": "booked"}, sort="at", limit=5)
        found = await with_deadline(1.0, booked, "look that up")
        lines = [f"{each['service']} on {each['at']:%B %d at %H:%M}, number {each['appointment_id']}" for each in found]
        return f"You have {len(lines)}: {'; '.join(lines)}." if lines else "You have no appointments."

    @function_tool
    async def cancel_appointment(self, context: RunContext[CallerSession], appointment_id: str) -> str:
        """Cancel one of the caller's appointments.

        Args:
            appointment_id: the number of the appointment
        """
        change = context.userdata.collection("appointments").update(
            {"appointment_id": appointment_id, "status": "booked"}, {"status": "cancelled"}
        )
        if not await with_deadline(2.0, change, "cancel that"):
            raise ToolError(f"You have no appointment {appointment_id}.")
        return f"Appointment {appointment_id} is cancelled."
