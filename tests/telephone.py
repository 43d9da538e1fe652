"""A caller who presses keys: LiveKit's own room, participant and events, without a server."""

from __future__ import annotations

from livekit import rtc
from livekit.rtc._proto import handle_pb2, participant_pb2

CALLER = "sip_caller"
_CODES = {key: code for code, key in enumerate("0123456789*#ABCD")}


def participant(identity: str = CALLER) -> rtc.RemoteParticipant:
    """One on a telephone."""
    kind = participant_pb2.ParticipantKind.PARTICIPANT_KIND_SIP
    info = participant_pb2.ParticipantInfo(sid=f"PA_{identity}", identity=identity, name="", kind=kind)
    return rtc.RemoteParticipant(
        participant_pb2.OwnedParticipant(info=info, handle=handle_pb2.FfiOwnedHandle(id=0)),
    )


class Telephone:
    """The telephone of the caller in a room; to be made while an event loop runs."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.participant = participant()

    def press(self, keys: str, by: rtc.RemoteParticipant | None = None) -> None:
        """Press keys, one by one, without a pause."""
        for key in keys:
            self.receive(key, by or self.participant)

    def receive(self, digit: str, by: rtc.RemoteParticipant | None) -> None:
        """Have the room receive what a participant sent as a digit."""
        self.room.emit("sip_dtmf_received", rtc.SipDTMF(code=_CODES.get(digit, 0), digit=digit, participant=by))
