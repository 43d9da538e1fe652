"""OpenTelemetry spans of MongoDB commands; nothing is imported or measured unless tracing is on.

Tracing is on if OTEL_EXPORTER_OTLP_ENDPOINT is set, or if the host program has set its own tracer provider before it
opens the store. LiveKit's SDK makes the spans of calls, model requests and tools, which contain ours. Our spans name
the operation, the collection and the number of documents, never their content.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from pymongo.monitoring import CommandListener

from lkmongo.imports import extra
from lkmongo.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import Attributes
    from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

    from lkmongo.redaction import Redactor
    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

FLUSH_DEADLINE = 2.0
"""Seconds that the end of a call or a command waits for the export of its spans."""
_ON_A_COLLECTION = frozenset(
    "aggregate count create createIndexes createSearchIndexes delete distinct drop dropIndexes dropSearchIndex find "
    "findAndModify insert listIndexes update updateSearchIndex".split()
)
"""Commands whose value is the name of a collection."""

_ours: TracerProvider | None = None
_allow_pii = False


def configure(settings: Settings) -> None:
    """Set up the export of traces; once per process, and not if the host traces already.

    Raises:
        MissingExtraError: an endpoint is set, but the exporter is not installed.
    """
    global _ours, _allow_pii  # noqa: PLW0603 - OpenTelemetry has one provider a process too
    if settings.otlp_endpoint is None or is_on():
        return
    with extra("telemetry", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: "lkmongo"}).merge(OTELResourceDetector().detect())
    # Its own shutdown may wait 30 s for an unreachable collector; `flush` does not.
    _ours = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter: SpanExporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint}/v1/traces")
    _allow_pii = settings.telemetry_allow_pii
    if _allow_pii and settings.tenant_policies().some_ask:
        _allow_pii = False  # a span does not say whose it is, so it cannot wait until they agree
        logger.warning("traces hold no speech: LKMONGO_TENANTS says that callers are asked before anything is kept")
    if _allow_pii:
        exporter = redacting(exporter, Redaction.of(settings).strictest)
    _ours.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(_ours)


def redacting(exporter: SpanExporter, redactor: Redactor) -> SpanExporter:
    """An exporter that redacts what spans hold of conversations; a span does not say whose they are."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter as Exporter
    from opentelemetry.trace import Status

    def attributes(given: Attributes) -> dict[str, Any]:
        return {name: _redacted(value, redactor) for name, value in (given or {}).items()}

    def redacted(span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            redactor.text(span.name),
            span.context,
            span.parent,
            span.resource,
            attributes(span.attributes),
            [Event(each.name, attributes(each.attributes), each.timestamp) for each in span.events],
            span.links,
            span.kind,
            status=Status(span.status.status_code, redactor.text(span.status.description or "") or None),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    class Redacting(Exporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([redacted(span) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Redacting()


def _redacted(value: Any, redactor: Redactor) -> Any:
    """An attribute: text, which may be JSON, or several of that; numbers measure something."""
    if isinstance(value, str):
        return redactor.json(value)
    if isinstance(value, tuple | list):
        return tuple(redactor.json(each) if isinstance(each, str) else each for each in value)
    return value


def share_with_livekit() -> None:
    """Let LiveKit's SDK use our provider, without the content of calls unless the settings allow it."""
    if _ours is not None:
        from livekit.agents import telemetry

        telemetry.set_tracer_provider(_ours, allow_pii=_allow_pii)


def is_on() -> bool:
    trace = sys.modules.get("opentelemetry.trace")
    # Another thread may be importing it, as LiveKit's SDK does: then it is incomplete, and has no provider yet.
    if trace is None or getattr(trace.__spec__, "_initializing", False):
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def listeners() -> list[CommandListener]:
    return [_Spans()] if is_on() else []


async def flush() -> None:
    """Export our spans; give up after `FLUSH_DEADLINE` seconds."""
    provider = _ours
    if provider is None:
        return
    # In a thread that may be abandoned: the exporter has no deadline.
    sent, loop = asyncio.Event(), asyncio.get_running_loop()

    def send() -> None:
        provider.force_flush()
        try:
            loop.call_soon_threadsafe(sent.set)
        except RuntimeError:  # nobody waits any more
            return

    threading.Thread(target=send, name="lkmongo-traces", daemon=True).start()
    try:
        async with asyncio.timeout(FLUSH_DEADLINE):
            await sent.wait()
    except TimeoutError:
        logger.info("the traces were not sent within %g s", FLUSH_DEADLINE)


class _Spans(CommandListener):
    """One span per command, by OpenTelemetry's conventions for database clients."""

    def __init__(self) -> None:
        from opentelemetry import trace

        self._tracer: Tracer = trace.get_tracer("lkmongo")
        self._open: dict[int, Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        from opentelemetry.trace import SpanKind

        name = event.command_name
        key = "collection" if name == "getMore" else name if name in _ON_A_COLLECTION else None
        target = event.command.get(key) if key else None
        collection = target if isinstance(target, str) else None  # 1 if a pipeline is for the whole database
        attributes: dict[str, Any] = {
            "db.system.name": "mongodb",
            "db.namespace": event.database_name,
            "db.operation.name": name,
        }
        if collection:
            attributes["db.collection.name"] = collection
        title = f"{name} {collection or event.database_name}"
        self._open[event.request_id] = self._tracer.start_span(title, kind=SpanKind.CLIENT, attributes=attributes)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if span := self._open.pop(event.request_id, None):
            if (rows := _returned(event.reply)) is not None:
                span.set_attribute("db.response.returned_rows", rows)
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        from opentelemetry.trace import StatusCode

        if span := self._open.pop(event.request_id, None):
            kind = str(event.failure.get("codeName") or event.failure.get("errtype") or "error")
            span.set_attribute("error.type", kind)
            span.set_status(StatusCode.ERROR)
            span.end()


def _returned(reply: Any) -> int | None:
    """The number of documents in a reply that has a cursor."""
    cursor = reply.get("cursor") if hasattr(reply, "get") else None
    batch = (cursor.get("firstBatch") or cursor.get("nextBatch") or []) if cursor else None
    return None if batch is None else len(batch)
