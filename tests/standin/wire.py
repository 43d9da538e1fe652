"""MongoDB wire messages: split a byte stream, read a command out of one, build a reply.

Only what drivers of today send is understood: OP_MSG, and OP_QUERY with its OP_REPLY for the first handshake.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from functools import cached_property
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
CHECKSUM, MORE_TO_COME = 1, 2
MAX_MESSAGE = 48_000_000

_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
_ids = itertools.count(1_000_000)

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
"""Keeps what it reads: no time zones added, no binary turned into UUIDs, dates out of range accepted."""


class ProtocolError(Exception):
    """Bytes that are not a message the stand-in understands."""


class Message:
    """One message as it went over the wire."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.length, self.request_id, self.response_to, self.opcode = _HEADER.unpack_from(raw)

    @property
    def more_to_come(self) -> bool:
        """A request that wants no reply, or a reply that another one follows unasked."""
        return self.opcode == OP_MSG and bool(_INT.unpack_from(self.raw, 16)[0] & MORE_TO_COME)

    @cached_property
    def command(self) -> str:
        """The command's name, without decoding the message; empty when there is none."""
        start = self._body_start()
        if start is None or start + 6 > len(self.raw) or self.raw[start + 4] == 0:
            return ""
        return self.raw[start + 5 : self.raw.index(b"\0", start + 5)].decode()

    @cached_property
    def body(self) -> dict[str, Any]:
        """The command or reply document, document sequences included."""
        if self.opcode == OP_MSG:
            return self._sections()
        start = self._body_start()
        if start is None:
            raise ProtocolError(f"opcode {self.opcode} has no document")
        end = start + _INT.unpack_from(self.raw, start)[0]
        return bson.decode(self.raw[start:end], CODEC)

    def _body_start(self) -> int | None:
        if self.opcode == OP_MSG:
            at = 20
            while at < len(self.raw) and self.raw[at] == 1:
                at += 1 + _INT.unpack_from(self.raw, at + 1)[0]
            return at + 1 if at < len(self.raw) else None
        if self.opcode == OP_QUERY:
            return self.raw.index(b"\0", 20) + 1 + 8
        return 36 if self.opcode == OP_REPLY else None

    def _sections(self) -> dict[str, Any]:
        end = len(self.raw) - (4 if _INT.unpack_from(self.raw, 16)[0] & CHECKSUM else 0)
        document: dict[str, Any] = {}
        sequences: dict[str, Any] = {}
        at = 20
        while at < end:
            kind, size = self.raw[at], _INT.unpack_from(self.raw, at + 1)[0]
            part = self.raw[at + 1 : at + 1 + size]
            if kind == 0:
                document = bson.decode(part, CODEC)
            elif kind == 1:
                stop = part.index(b"\0", 4)
                sequences[part[4:stop].decode()] = bson.decode_all(part[stop + 1 :], CODEC)
            else:
                raise ProtocolError(f"section kind {kind}")
            at += 1 + size
        return document | sequences

    def with_body(self, document: dict[str, Any]) -> bytes:
        """The same message, same ids and flags, with another document and without a checksum."""
        if self.opcode == OP_REPLY:
            return _pack(self.request_id, self.response_to, OP_REPLY, self.raw[16:36] + bson.encode(document))
        if self.opcode != OP_MSG:
            raise ProtocolError(f"opcode {self.opcode} cannot carry another document")
        flags = _INT.unpack_from(self.raw, 16)[0] & ~CHECKSUM
        return _pack(self.request_id, self.response_to, OP_MSG, _INT.pack(flags) + b"\0" + bson.encode(document))

    def reply(self, document: dict[str, Any]) -> bytes:
        """A reply to this request that holds `document`."""
        data = bson.encode(document)
        if self.opcode == OP_QUERY:
            return _pack(next(_ids), self.request_id, OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + data)
        return _pack(next(_ids), self.request_id, OP_MSG, _INT.pack(0) + b"\0" + data)


def _pack(request_id: int, response_to: int, opcode: int, payload: bytes) -> bytes:
    return _HEADER.pack(16 + len(payload), request_id, response_to, opcode) + payload


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message, or None when the peer is gone.

    Raises:
        ProtocolError: the bytes are not a message the stand-in understands.
    """
    try:
        head = await reader.readexactly(16)
        length, _, _, opcode = _HEADER.unpack(head)
        if not 16 < length <= MAX_MESSAGE:
            raise ProtocolError(f"message of {length} bytes")
        if opcode not in (OP_MSG, OP_QUERY, OP_REPLY):
            raise ProtocolError(f"opcode {opcode}")
        return Message(head + await reader.readexactly(length - 16))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
