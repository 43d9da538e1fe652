"""The talk page as it is served: in the browser's language, with its words as text."""

from __future__ import annotations

import json
import re

import pytest

from lkmongo.web.page import language, render

LANGUAGES = ("en", "de")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,de;q=0.5,en;q=0.1", "de"),
        ("fr", "en"),
        ("de;q=0", "en"),
        ("EN;q=0.2, DE;q=0.7", "de"),
        ("*", "en"),
        ("de;q=many, ;;,,", "en"),
        ("de;q=1" * 10_000, "en"),
    ],
)
def test_the_language_is_the_one_that_the_browser_likes_best_of_those_there_are(accepted, expected):
    assert language(accepted, LANGUAGES) == expected


def test_words_get_into_the_document_as_text():
    words = {"name": "Talk", "greeting": "Hello.", "title": 'a "b" <i>c</i> & d'}
    template = '<h1 title="{{title}}">{{title}}</h1><p>{{name}}: {{greeting}}</p><!-- words --><!-- page -->'
    nasty = "</script><script>alert(1)</script>"
    text = render(template, words, {"name": nasty}, "")
    assert "<i>" not in text
    assert text.startswith('<h1 title="a &quot;b&quot; &lt;i&gt;c&lt;/i&gt; &amp; d">a &quot;b&quot;')
    assert text.count("</script>") == 2, "those of the two elements"
    data = {name: json.loads(content) for name, content in re.findall(r'id="(\w+)">(.*?)</script>', text)}
    assert data["words"] == words | {"name": nasty}
    assert data["page"] == {"name": nasty}
