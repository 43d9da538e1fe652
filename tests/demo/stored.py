"""What is known of the caller in the tests of the demo responder, and how an utterance is answered then."""

from __future__ import annotations

from lkmongo.demo.intents import understand
from lkmongo.demo.replies import CallerData, ToolCall, next_step

ARGUMENTS = {
    "update_profile": {"field", "value"},
    "remember_detail": {"memory_type", "content"},
    "recall_detail": {"memory_type"},
    "search_memories": {"query"},
    "search_past_calls": {"query"},  # of a time it knows nothing
    "list_user_memories": set(),
    "forget_detail": {"memory_type"},
    "lookup_order": {"order_id"},
    "search_knowledge": {"query"},
}
CHANGING = {"update_profile", "remember_detail", "forget_detail"}

ROBIN = CallerData(
    "known",
    {"name": "Robin", "email": "robin@example.com"},
    {
        "favorite_color": "teal",
        "favourite_band": "Blur",
        "dog_name": "Rex",
        "shoe_size": "42",
        "son_birthday": "June 1",
        "dads_birthday": "May 4",
        "family": "wife Anna, son Tom",
        "pets": "a cat and a dog",
        "peanut_allergy": "peanuts; carries an EpiPen since 2019",
        "allergy_to_nuts": "allergic to nuts",
    },
)
"""Somebody of whom something is stored."""


def answer(text: str, caller: CallerData = ROBIN) -> ToolCall | str:
    """The tool that an utterance takes first, or what is said without one."""
    return next_step(understand(text), caller, set(ARGUMENTS), lists_orders=True)
