"""Custom analyzers and `multi`: terms as Lucene makes them, refusals, and what a query finds through them."""

from __future__ import annotations

import pytest

from lkmongo.store.indexes.definitions import MEMORIES_TEXT, differences, search_indexes
from tests.standin.custom_analyzers import parse_analyzers
from tests.standin.definitions import parse_definition
from tests.standin.errors import UNSUPPORTED, CommandError, DefinitionError
from tests.standin.shown import shown
from tests.standin.snapshots import Snapshot
from tests.standin.text_search import parse_query, search

(TEXT,) = (dict(index.definition) for index in search_indexes(8) if index.name == MEMORIES_TEXT)
ANALYZERS = parse_analyzers(TEXT["analyzers"])
LUCENE = [
    ("en", "My mother's Wi-Fi, the dog\u2019S caf\u00e9s", "my mother wi fi the dog cafe"),
    ("en", "cancelled, cities returning: quickly added", "cancel citi return quick add"),
    ("en", "O\u2019Neill don't S\u00f8ren \u0153uvre \ufb01ne \u00bd", "o'neil don't soren oeuvr fine"),
    ("en", "geologists and biologist's \u65e5\u672c 3.5", "geologist and biologist \u65e5 \u672c 3.5"),
    ("joined", "My mother's Wi-Fi", "mymoth motherwi wifi"),
    ("joined", "two sound bars", "twosound soundbar"),
    ("joined", "alone", ""),
    ("de", "Lehrerinnen arbeiteten in gro\u00dfen H\u00e4usern", "lehr arbeit in gross haus"),
    ("de", "Er kauft Autos, hei\u00dft M\u00fcller oder Mueller", "er kauf auto heiss mull oder mull"),
    ("de", "Artikeln des Immunsystems, Freundinnen", "artikel des immunsystem freundinn"),
    ("es", "Las canciones y la canci\u00f3n, asociaci\u00f3n", "las cancion y la cancion asoci"),
    ("es", "ciudades ciudad ni\u00f1os comprar compr\u00f3", "ciudad ciud nin compr compr"),
    ("fr", "Les \u00e9l\u00e8ves aimaient l'h\u00f4pital et les chevaux", "le elev aim l'hopital et le cheval"),
    ("it", "Le citt\u00e0, gli amici lavoravano felicemente", "le citt gli amic lavor felic"),
    ("pt", "As informa\u00e7\u00f5es dos irm\u00e3os, trabalhando", "as informaco dos irma trabalh"),
    ("nl", "Twee honden en katten werkten gelukkig", "twee hond en kat werkt gelukk"),
    ("ru", "\u0441\u043e\u0431\u0430\u043a\u0438 \u0435\u0449\u0451", "\u0441\u043e\u0431\u0430\u043a \u0435\u0449"),
]  # fmt: skip
"""Analyzer of the text index, text, and the terms that Lucene 10.1.0 with ICU 74.2 makes of it."""


@pytest.mark.parametrize(("name", "text", "terms"), LUCENE)
def test_terms_are_those_of_lucene(name, text, terms):
    assert " ".join(ANALYZERS[name](text)) == terms


def with_filter(*filters, **more):
    analyzer = {"name": "mine", "tokenizer": {"type": "standard"}, "tokenFilters": list(filters)}
    return {"mappings": {"fields": {"content": {"type": "string", "analyzer": "mine"}}}, "analyzers": [analyzer | more]}


def with_multi(multi):
    return {"mappings": {"fields": {"content": {"type": "string", "multi": multi}}}}


REGEX = {"type": "regex", "pattern": "a", "replacement": "b", "matches": "all"}


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        (with_filter({"type": "icuFoldings"}), 'tokenFilters[0].type" must be one of [asciiFolding, daitchMokotoff'),
        (with_filter({}), '"analyzers[0].tokenFilters[0].type" is required'),
        (with_filter({"type": "icuFolding", "x": 1}), '"analyzers[0].tokenFilters[0]" unrecognized field "x"'),
        (with_filter({"type": "snowballStemming"}), '"analyzers[0].tokenFilters[0].stemmerName" is required'),
        (with_filter({"type": "snowballStemming", "stemmerName": "klingon"}), 'stemmerName" must be one of [arabic'),
        (with_filter(REGEX | {"matches": "some"}), 'matches" must be one of [all, first]'),
        (with_filter(tokenizer={"type": "words"}), '"analyzers[0].tokenizer.type" must be one of [edgeGram, keyword'),
        (with_filter(name="lucene.mine"), '"analyzers[0].name" cannot begin with lucene.'),
        (with_filter(name="yours"), "references non-existent analyzers: mine"),
        (with_filter() | {"analyzers": with_filter()["analyzers"] * 2}, '"analyzers"'),
        (with_multi({"de": {"type": "string", "analyzer": "mine"}}), "references non-existent analyzers: mine"),
        (with_multi({"a.b": {"type": "string"}}), 'multi path cannot contain "."'),
        (with_multi({"de": {"type": "token"}}), "multi definition must be string field"),
        (with_multi({"de": {"type": "string", "multi": {"x": {"type": "string"}}}}), "cannot contain nested multi"),
    ],
)
def test_what_the_service_refuses_is_refused(definition, why):
    with pytest.raises(DefinitionError) as caught:
        parse_definition("search", definition)
    assert why in caught.value.message


@pytest.mark.parametrize(
    "definition",
    [
        with_filter({"type": "porterStemming"}),
        with_filter({"type": "snowballStemming", "stemmerName": "turkish"}),
        with_filter({"type": "shingle", "minShingleSize": 2, "maxShingleSize": 3}),
        with_filter(REGEX | {"replacement": "$1"}),
        with_filter(tokenizer={"type": "whitespace"}),
        with_filter(charFilters=[{"type": "htmlStrip"}]),
    ],
)
def test_what_is_not_modelled_is_no_pass_through(definition):
    with pytest.raises(CommandError) as caught:
        parse_definition("search", definition)
    assert caught.value.code == UNSUPPORTED


def test_the_service_shows_defaults_of_every_way_a_text_is_indexed():
    form = shown("search", TEXT)
    defaults = {"indexOptions": "offsets", "store": True, "norms": "include"}
    assert form["analyzers"] == TEXT["analyzers"]
    assert differences(TEXT, form) == [], "and that is no drift"
    assert form["mappings"]["fields"]["content"]["multi"]["de"] == {"type": "string", "analyzer": "de"} | defaults


SAID = [{"_id": 0, "content": "the Wi-Fi at home"}, {"_id": 1, "content": "drei Katzen"}, {"_id": 2, "content": "wifi"}]


def found(query, *paths):
    spec = {"text": {"query": query, "path": list(paths)}}
    return [hit.id for hit in search(parse_query(spec), parse_definition("search", TEXT), Snapshot(SAID))]


def test_a_path_is_searched_as_each_of_its_ways_has_it():
    assert found("wifi", "content") == [2]
    assert found("wifi", {"value": "content", "multi": "joined"}) == [0]
    assert sorted(found("wifi", "content", {"value": "content", "multi": "joined"})) == [0, 2]
    assert found("Katze", "content") == []
    assert found("Katze", {"value": "content", "multi": "de"}) == [1]
    assert found("Katze", {"value": "nowhere"}) == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ({"value": "content", "multi": "sv"}, "content (multi: sv) not found in index"),
        ({"value": "nowhere", "multi": "de"}, "nowhere (multi: de) not found in index"),
        ({"multi": "de"}, '"text.path[0].value" is required'),
        ({"value": "content", "language": "de"}, '"text.path[0]" unrecognized field "language"'),
    ],
)
def test_a_way_that_is_not_there_is_an_error(path, why):
    with pytest.raises(CommandError) as caught:
        found("x", path)
    assert why in caught.value.message
