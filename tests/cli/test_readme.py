"""What the README shows of two conversations is what the program prints."""

from __future__ import annotations

from docs import generate, recording


def test_the_conversations_in_the_readme_are_real(run):
    def shown(arguments: list[str], typed: str) -> str:
        done = run(*arguments, input=typed, env={"LOGNAME": recording.CALLER})
        assert done.code == 0, done.stderr
        return done.stderr + done.stdout

    first, second = recording.first_call(shown), recording.second_call(shown)
    readme = (generate.ROOT / "README.md").read_text(encoding="utf-8")
    # The MongoDB of the tests runs already.
    assert first in readme.replace(f"{recording.STARTING}\n", ""), "run `make docs`"
    picture = (generate.ROOT / "docs/images/second-call.svg").read_text(encoding="utf-8")
    assert recording.picture(second) == picture, "run `make docs`"
