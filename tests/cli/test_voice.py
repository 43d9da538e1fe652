"""The console aloud as a user meets it where it cannot be: without credentials; and its keys on a terminal."""

from __future__ import annotations

import os
import sys

import pexpect

from tests.cli.started import ROOT


def test_without_speech_a_pipe_gets_one_error_that_names_it_and_what_to_do(run):
    arguments = ["agent", "console", "--voice", "--user", "u-100", "--json"]
    result = run(*arguments, input="hello\n", env={"LKMONGO_SPEECH": "off"})
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "speech is not available (LKMONGO_SPEECH is off)" in result.stderr
    assert "leave out --voice to talk in text" in result.stderr


def test_a_device_is_of_no_use_without_a_voice(run_inside):
    result = run_inside("agent", "console", "--input-device", "headset")
    assert result.code == 2
    assert "add --voice" in result.stderr


def test_a_person_at_a_terminal_goes_on_in_text(at_terminal):
    child = at_terminal("agent", "console", "--voice", "--user", "u-100")
    child.expect("this console cannot talk aloud")
    child.expect("Continuing in text")
    child.expect("you>")
    child.send("remember that my dog is called Rex\r")
    child.expect("agent> .*Rex")
    child.expect("you>")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


KEYS = """
import asyncio
from lkmongo.console.lines import typed_or_spoken

async def main():
    print("ready", flush=True)
    async for item in typed_or_spoken("type> "):
        print(f"<{getattr(item, 'text', None) or item.value}>", flush=True)

asyncio.run(main())
"""


def test_keys_switch_to_typing_and_back_and_hang_up(tmp_path):
    child = pexpect.spawn(
        sys.executable,
        ["-c", KEYS],
        env=dict(os.environ) | {"TERM": "xterm", "PYTHONPATH": str(ROOT)},
        cwd=str(tmp_path),
        encoding="utf-8",
    )
    child.expect("ready")
    child.send("xyz\r")  # letters are nothing while they talk
    child.expect("<type>")
    child.expect("type>")
    child.send("a line\r")
    child.expect("<a line>")
    child.expect("type>")
    child.send("\r")  # an empty line
    child.expect("<talk>")
    child.send("\x14")  # Ctrl-T
    child.expect("<type>")
    child.expect("type>")
    child.send("not said\x14")
    child.expect("<talk>")
    assert "<not said>" not in child.before
    child.send("\x04")  # Ctrl-D
    child.expect("<hang up>")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
