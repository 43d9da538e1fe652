"""`lkmongo web`: what it refuses to start with, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request

import pytest

LIVEKIT = {
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": "APIabcdefgh",
    "LIVEKIT_API_SECRET": "a-secret-that-is-long-enough-for-hmac-256",
}


def test_with_nothing_configured_it_says_what_is_missing_and_how_to_try_it(run_inside):
    result = run_inside("web")
    assert (result.code, result.stdout) == (2, "")
    for part in (
        "livekit-server --dev",
        "LIVEKIT_API_KEY=devkey",
        "lkmongo agent run --dev",
        "the agent\nanswers in writing",
        "error: LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
    ):
        assert part in result.stderr
    assert result.stderr.splitlines()[-1].startswith("  try: ")
    as_json = run_inside("web", "--json")
    assert set(json.loads(as_json.stderr)["error"]) == {"code", "message", "why", "hint"}


@pytest.mark.parametrize("command", [["web"], ["agent", "run", "--demo"]])
def test_a_secret_that_could_be_guessed_is_refused_unless_it_is_for_development(run_inside, command):
    env = {**LIVEKIT, "LIVEKIT_URL": "ws://192.0.2.1:7880", "LIVEKIT_API_SECRET": "secret"}
    result = run_inside(*command, env=env)
    assert (result.code, result.stdout) == (2, "")
    assert "error: LIVEKIT_API_SECRET has only 6 bytes and could be guessed" in result.stderr
    assert "openssl rand -hex 32; for development, --dev permits it" in result.stderr


@pytest.mark.parametrize(
    ("url", "options"), [("ws://192.0.2.1:1", ["--dev"]), ("ws://localhost:1", []), ("http://[::1]:1", [])]
)
def test_for_development_it_is_warned_of(start, url, options):
    env = {**LIVEKIT, "LIVEKIT_URL": url, "LIVEKIT_API_SECRET": "secret", "MONGODB_URI": "mongodb://127.0.0.1:1"}
    with start("web", "--port", "0", *options, env=env) as process:
        url = re.fullmatch(r"Talk on (http://localhost:\d+/)\n", process.stdout.readline().decode())[1]
        assert ask(f"{url}api/token", b"{}")[0] == 201
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1].decode()
    assert told.count("warning: LIVEKIT_API_SECRET has only 6 bytes and could be guessed: only for development") == 1
    assert "InsecureKeyLengthWarning" not in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "talk.example.com"])
def test_it_is_not_opened_to_others_without_a_login(run_inside, host):
    result = run_inside("web", "--host", host, env=LIVEKIT)
    assert result.code == 2
    assert "LKMONGO_WEB_AUTH is not set" in result.stderr


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({"LIVEKIT_URL": ""}, [], "LIVEKIT_URL is not set"),
        ({"LKMONGO_WEB_AUTH": "nowhere"}, [], "LKMONGO_WEB_AUTH must be package.module:callable"),
        ({"LKMONGO_WEB_AUTH": "no_such_module:who"}, [], "there is no module no_such_module"),
        ({"LKMONGO_WEB_AUTH": "json:nothing"}, [], "json has no nothing"),
        ({"LKMONGO_WEB_AUTH": "lkmongo.model:MAX_ID"}, [], "is not callable"),
        ({"LKMONGO_WEB_KEYS": "short,s3cret-short"}, [], "LKMONGO_WEB_KEYS must be keys of at least 32 characters"),
        ({"LKMONGO_WEB_ORIGINS": "talk.example.com"}, [], "LKMONGO_WEB_ORIGINS must be origins such as https://"),
        ({"LKMONGO_WEB_ORIGINS": "https://a.example/path"}, [], "LKMONGO_WEB_ORIGINS must be origins"),
        ({}, ["--assets", "nowhere"], "livekit-client.umd.js cannot be read"),
        ({}, ["--tenant", ""], "tenant"),
        ({}, ["--port", "70000"], "--port"),
    ],
)
def test_what_is_set_wrong_is_named(run_inside, environment, options, message):
    result = run_inside("web", *options, env=LIVEKIT | environment)
    assert result.code == 2
    assert message in result.stderr
    assert "s3cret-short" not in result.stderr


def test_keys_that_others_can_read_are_refused(run_inside, tmp_path):
    file = tmp_path / "home" / "web-keys"
    file.parent.mkdir()
    file.write_text("k" * 64)
    file.chmod(0o644)
    env = LIVEKIT | {"LKMONGO_HOME": str(file.parent), "MONGODB_URI": "mongodb://127.0.0.1:1"}
    result = run_inside("web", env=env)
    assert result.code == 2
    assert f"chmod 600 {file}" in result.stderr
    file.chmod(0o600)
    file.write_text("too short")
    assert "does not contain keys" in run_inside("web", env=env).stderr


def ask(url: str, data: bytes | None = None):
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_told_to_stop_whether_or_not_mongodb_is_there(start, tmp_path, number, code):
    home = tmp_path / "own home"
    away = {"LKMONGO_HOME": str(home), "MONGODB_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"}
    with start("web", "--port", "0", env=LIVEKIT | away) as process:
        url = re.fullmatch(r"Talk on (http://localhost:\d+/)\n", process.stdout.readline().decode())[1]
        status, headers, page = ask(url)
        assert (status, headers["Server"]) == (200, "lkmongo")
        assert b"livekit-client@" in page
        assert ask(f"{url}api/token", b"{}")[0] == 201
        assert json.loads(ask(f"{url}health")[2]) == {"status": "ok", "mongodb": "away"}
        keys = home / "web-keys"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600
        process.send_signal(number)
        told = process.communicate()[1].decode()
        assert process.returncode == code
    assert "warning: MongoDB cannot be reached" in told
    assert "Traceback" not in told
    assert keys.read_text().strip() not in told
    assert list(home.iterdir()) == [keys]


def test_a_port_that_is_taken_is_told(cli_env, tmp_path, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("web", "--port", port, env=LIVEKIT | {"LKMONGO_WEB_KEYS": "k" * 32})
    assert result.code == 1
    assert f"port {port}" in result.stderr
    assert "choose another with --port" in result.stderr


def test_as_json_it_tells_its_addresses_and_a_login_opens_it_to_others(start, tmp_path):
    (tmp_path / "house.py").write_text("def who(request):\n    return request.headers.get('X-User')\n")
    env = {"LKMONGO_WEB_AUTH": "house:who", "LKMONGO_WEB_KEYS": "k" * 32}
    with start("web", "--port", "0", "--json", "--host", "0.0.0.0", env=LIVEKIT | env) as process:
        told = json.loads(process.stdout.readline())
        assert told["token_endpoint"] == f"{told['url']}api/token"
        assert ask(told["token_endpoint"], b"{}")[0] == 201
        process.send_signal(signal.SIGTERM)
        process.communicate()


def test_more_idle_connections_than_the_process_may_open_files_keep_nobody_out(cli_env, tmp_path):
    env = cli_env | LIVEKIT | {"LKMONGO_WEB_KEYS": "k" * 32, "MONGODB_URI": "mongodb://127.0.0.1:1"}
    command = ["bash", "-c", 'ulimit -n 300; exec "$@"', "-", sys.executable, "-m", "lkmongo", "web", "--port", "0"]
    with (
        subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        url = re.fullmatch(r"Talk on (http://localhost:\d+/)\n", process.stdout.readline().decode())[1]
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        for _ in range(400):
            stack.enter_context(socket.create_connection(address))
        assert ask(f"{url}api/token", b"{}")[0] == 201
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1].decode()
    assert "Too many open files" not in told
