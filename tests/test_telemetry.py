"""Traces: what a host's provider gets, what the OTLP endpoint gets, and that nothing of it is there otherwise."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from aiohttp import web
from livekit.agents import telemetry as livekit_telemetry
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lkmongo import telemetry
from lkmongo.errors import DatabaseError, MissingExtraError
from lkmongo.model import UserScope
from lkmongo.redaction import Redaction
from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store, open_store
from tests.fake_llm import calls
from tests.talk import talk

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
def no_provider(monkeypatch):
    """OpenTelemetry sets its provider once a process: put it back after the test."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace._TRACER_PROVIDER_SET_ONCE, "_done", False)
    monkeypatch.setattr(telemetry, "_ours", None)
    before = livekit_telemetry.tracer._tracer, livekit_telemetry.tracer._tracer_provider
    yield
    livekit_telemetry.tracer._tracer, livekit_telemetry.tracer._tracer_provider = before


@pytest.fixture
def spans(no_provider) -> InMemorySpanExporter:
    """What a host that traces to memory has."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    livekit_telemetry.set_tracer_provider(provider)
    return exporter


def ours(exporter: InMemorySpanExporter):
    return [span for span in exporter.get_finished_spans() if span.instrumentation_scope.name == "lkmongo"]


async def test_each_command_is_a_span_with_its_operation_and_collection_and_nothing_of_the_documents(
    spans, store, mongodb_uri, database_name
):
    async with create_client(mongodb_uri) as client:
        traced = Store.of(client[database_name])
        await traced.memories.remember(ROBIN, "pet", "a heron called Zephyrine")
        await traced.memories.slots(ROBIN)
        with pytest.raises(DatabaseError):
            await operations.read(lambda: traced.db.command("noSuchCommand", "Zephyrine"))
    found = {span.name: span for span in ours(spans)}
    find = found["find memories"]
    assert find.kind == trace.SpanKind.CLIENT
    assert dict(find.attributes) == {
        "db.system.name": "mongodb",
        "db.namespace": database_name,
        "db.operation.name": "find",
        "db.collection.name": "memories",
        "db.response.returned_rows": 1,
    }
    assert found["update memories"].attributes["db.operation.name"] == "update"
    failed = found[f"noSuchCommand {database_name}"]
    assert not failed.status.is_ok
    assert failed.attributes["error.type"] == "CommandNotFound"
    told = str([(span.name, dict(span.attributes), span.status.description, span.events) for span in ours(spans)])
    for secret in ("Zephyrine", "heron", "u-100", "pet"):
        assert secret not in told


async def test_the_spans_of_the_store_lie_inside_those_of_the_tool(spans, store, mongodb_uri, database_name):
    async with (
        create_client(mongodb_uri) as client,
        talk(Store.of(client[database_name]), ROBIN, calls()) as call,
    ):
        await call.tool("lookup_order", order_id="4711")
    (tool,) = [span for span in spans.get_finished_spans() if span.name == "function_tool"]
    (find,) = [span for span in ours(spans) if span.name == "find orders"]
    assert find.parent.span_id == tool.context.span_id


@pytest.mark.usefixtures("no_provider")
async def test_without_a_provider_the_client_listens_to_nothing():
    telemetry.configure(Settings.load({}))
    assert not telemetry.is_on()
    assert telemetry.listeners() == []
    await telemetry.flush()


def test_nothing_of_opentelemetry_is_imported_without_an_endpoint():
    code = (
        "import sys, lkmongo.cli, lkmongo.store.open, lkmongo.store.mongo.client as c\n"
        "c.create_client('mongodb://127.0.0.1:1')\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_another_thread_is_importing_is_not_looked_into():
    code = """
import sys, threading
from lkmongo import telemetry

half, asked = threading.Event(), threading.Event()

class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name == "opentelemetry.trace.propagation":
            half.set()
            asked.wait()

sys.meta_path.insert(0, Waiting())
importing = threading.Thread(target=__import__, args=("opentelemetry.trace",), daemon=True)
importing.start()
half.wait()
said = [telemetry.is_on(), telemetry.listeners()]
asked.set()
importing.join()
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
print(said, telemetry.is_on())
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[False, []] True\n", "")


@pytest.mark.usefixtures("no_provider")
async def test_the_endpoint_gets_the_spans_at_the_end_of_a_command(mongodb_uri, database_name):
    received: list[ExportTraceServiceRequest] = []

    async def take(request: web.Request) -> web.Response:
        received.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]
        settings = Settings.load(
            {
                "MONGODB_URI": mongodb_uri,
                "MONGODB_DB": database_name,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            }
        )
        async with open_store(settings) as store:
            await store.users.get(ROBIN)
    finally:
        telemetry._ours.shutdown()
        await runner.cleanup()
    resources = [resource for request in received for resource in request.resource_spans]
    names = {attribute.key: attribute.value.string_value for attribute in resources[0].resource.attributes}
    assert names["service.name"] == "lkmongo"
    assert "find users" in {s.name for r in resources for scope in r.scope_spans for s in scope.spans}


@pytest.mark.usefixtures("no_provider")
async def test_a_collector_that_is_away_keeps_nobody_waiting(mongodb_uri, database_name, monkeypatch):
    monkeypatch.setattr(telemetry, "FLUSH_DEADLINE", 0.1)
    settings = Settings.load(
        {
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DB": database_name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        }
    )
    async with open_store(settings) as store:
        await store.users.get(ROBIN)
    assert telemetry.is_on()
    for processor in telemetry._ours._active_span_processor._span_processors:
        processor.span_exporter.shutdown()  # else it goes on trying after the test
    telemetry._ours.shutdown()


@pytest.mark.usefixtures("no_provider")
async def test_without_the_extra_an_endpoint_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = Settings.load({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(MissingExtraError) as caught:
        telemetry.configure(settings)
    assert caught.value.hint == 'pip install "lkmongo[telemetry]"'
    assert not telemetry.is_on()


# ------------------------------------------------------------------ what LiveKit's spans hold of a conversation


def test_what_spans_hold_of_a_conversation_is_redacted_before_it_is_sent():
    sent = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(telemetry.redacting(sent, Redaction().strictest)))
    error = ValueError("no card 4111 1111 1111 1111")
    tracer = provider.get_tracer("livekit-agents")
    with tracer.start_as_current_span("user_turn", attributes={"lk.seconds": 1.5}) as span:
        span.set_attribute("lk.user_transcript", "my pin is 9034")
        span.set_attribute("lk.chat_ctx", json.dumps({"items": [{"content": ["four" + " one" * 15]}]}))
        span.set_attribute("lk.words", ["ssn 078-05-1120", "hello"])
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, str(error))
    (found,) = sent.get_finished_spans()
    told = found.to_json()
    assert not [text for text in ("9034", "4111", "four one", "078-05") if text in told]
    assert found.attributes["lk.user_transcript"] == "my pin is [secret]"
    assert found.attributes["lk.words"] == ("ssn [national id]", "hello")
    assert found.attributes["lk.seconds"] == 1.5
    assert (found.name, found.status.description) == ("user_turn", "no card [card ending 1111]")
    assert found.start_time == span.start_time


async def test_a_collector_that_gets_the_content_gets_it_redacted(no_provider, monkeypatch):
    made = []
    redacting = telemetry.redacting
    monkeypatch.setattr(telemetry, "redacting", lambda *given: made.append(given) or redacting(*given))
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    telemetry.configure(Settings.load(endpoint | {"LIVEKIT_TELEMETRY_ALLOW_PII": "on"}))
    assert len(made) == 1
    monkeypatch.setattr(telemetry, "_ours", None)


@pytest.mark.parametrize("tenants", ["default: {consent: ask}", "tenants: {clinic: {consent: ask}}"])
async def test_a_collector_gets_no_content_where_some_tenant_asks_for_consent(
    no_provider, monkeypatch, tmp_path, caplog, tenants
):
    (tmp_path / "tenants.yaml").write_text(tenants)
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "LKMONGO_TENANTS": str(tmp_path / "tenants.yaml")}
    telemetry.configure(Settings.load(endpoint | {"LIVEKIT_TELEMETRY_ALLOW_PII": "on"}))
    assert telemetry._allow_pii is False
    assert "traces hold no speech" in caplog.text
    monkeypatch.setattr(telemetry, "_ours", None)
