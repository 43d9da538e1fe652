"""Whose an event of WebRTC is in a process of several calls, and how many event loops it wakes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from livekit.rtc._proto.ffi_pb2 import FfiEvent, FfiResponse

from lkmongo.worker.call_events import CallEvents

CALLS = 8


@dataclass
class Call:
    """A call that listens as a room of the SDK does."""

    events: CallEvents
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self):
        self.queue = self.events.subscribe(self.loop)

    def heard(self) -> list[FfiEvent]:
        """What has come since the last time."""
        self.loop.run_until_complete(asyncio.sleep(0))
        return [self.queue.get_nowait() for _ in range(self.queue.qsize())]

    def connect(self, room: int) -> None:
        """Ask to enter a room, and be in it; its handle and its participant's are told by the answer."""
        self.events.answered(FfiResponse(connect={"async_id": room + 1}), self.loop)
        entered = FfiEvent(connect={"async_id": room + 1})
        entered.connect.result.room.handle.id = room
        entered.connect.result.local_participant.handle.id = room + 2
        self.events.put(entered)


@pytest.fixture
def calls():
    events = CallEvents()
    calls = [Call(events) for _ in range(CALLS)]
    for number, each in enumerate(calls):
        each.connect(room=10 * (number + 1))
    yield calls
    for each in calls:
        each.loop.close()


def _of_room(room: int, **what) -> FfiEvent:
    return FfiEvent(room_event={"room_handle": room, **what})


def test_the_answer_to_a_request_goes_to_the_call_that_made_it(calls):
    assert [[each.connect.result.room.handle.id for each in call.heard()] for call in calls] == [
        [10 * (number + 1)] for number in range(CALLS)
    ]


@pytest.mark.parametrize(
    "event",
    [
        _of_room(30, participant_disconnected={"participant_identity": "robin"}),
        FfiEvent(rpc_method_invocation={"local_participant_handle": 32, "method": "ring"}),
    ],
    ids=["of a room", "of a participant"],
)
def test_an_event_of_a_room_wakes_its_call_alone(calls, event):
    for each in calls:
        each.heard()
    calls[0].events.put(event)
    assert [call.heard() for call in calls] == [[], [], [event], [], [], [], [], []]


def test_sound_wakes_the_call_that_listens_to_it_alone(calls):
    for each in calls:
        each.heard()
    made = FfiResponse()
    made.new_audio_stream.stream.handle.id = 5
    calls[4].events.answered(made, calls[4].loop)
    sound = FfiEvent(audio_stream_event={"stream_handle": 5, "eos": {}})
    calls[0].events.put(sound)
    assert [len(call.heard()) for call in calls] == [0, 0, 0, 0, 1, 0, 0, 0]


def test_what_is_not_known_to_be_of_a_call_goes_to_all_of_them(calls):
    for each in calls:
        each.heard()
    for event in (_of_room(99), FfiEvent(publish_data={"async_id": 7})):
        calls[0].events.put(event)
        assert [call.heard() for call in calls] == [[event]] * CALLS


def test_an_answer_is_waited_for_once(calls):
    events, first = calls[0].events, calls[0]
    for each in calls:
        each.heard()
    events.answered(FfiResponse(publish_data={"async_id": 7}), first.loop)
    answer = FfiEvent(publish_data={"async_id": 7})
    events.put(answer)
    assert [len(call.heard()) for call in calls] == [1, 0, 0, 0, 0, 0, 0, 0]
    events.put(answer)
    assert [len(call.heard()) for call in calls] == [1] * CALLS


def test_filters_and_the_end_of_a_subscription_are_as_in_the_sdk(calls):
    events, first = calls[0].events, calls[0]
    first.heard()
    wanted = events.subscribe(first.loop, lambda event: event.WhichOneof("message") == "rpc_method_invocation")
    events.put(_of_room(10))
    assert (len(first.heard()), wanted.qsize()) == (1, 0)
    events.unsubscribe(first.queue)
    events.put(FfiEvent(rpc_method_invocation={"local_participant_handle": 12}))
    assert (len(first.heard()), wanted.qsize()) == (0, 1)


def test_of_a_call_that_has_ended_nothing_is_kept(calls):
    gone, events = calls[0], calls[0].events
    events.answered(FfiResponse(publish_data={"async_id": 7}), gone.loop)
    gone.loop.close()
    later = Call(events)
    assert gone.loop not in {*events._calls, *events._asked.values(), *events._owners.values()}
    event = _of_room(10)
    events.put(event)  # of nobody any more
    assert later.heard() == [event]
    later.loop.close()
