"""Custom analyzers of an index definition: a tokenizer and token filters, as Lucene 10.1 applies them.

What is not modelled is an error, an unknown name is refused. Equal to Lucene's own on the words of three languages;
`tests/standin_tests/test_custom_analyzers.py` has samples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

from Stemmer import Stemmer

from tests.standin.analysis import standard_tokens
from tests.standin.errors import bad_definition, unsupported

Filter = Callable[[list[str]], list[str]]

_TOKENIZERS = "edgeGram keyword nGram regexCaptureGroup regexSplit standard uaxUrlEmail whitespace".split()
_FILTERS = (
    "asciiFolding daitchMokotoffSoundex edgeGram englishMinimalStemming englishPossessive flattenGraph icuFolding "
    "icuNormalizer kStemming keywordRepeat length limitTokenCount lowercase nGram porterStemming regex "
    "removeDuplicates reverse shingle snowballStemming spanishPluralStemming stempel stopword trim wordDelimiterGraph"
).split()
_STEMMERS = (
    "arabic armenian basque catalan danish dutch english estonian finnish french german german2 hungarian irish "
    "italian lithuanian norwegian porter portuguese romanian russian spanish swedish turkish"
).split()
_RESERVED = ("lucene.", "builtin.", "mongodb.")


@dataclass(frozen=True, eq=False)
class CustomAnalyzer:
    """Call it with a text for its terms, in order."""

    name: str
    filters: tuple[Filter, ...]

    def __call__(self, text: str) -> list[str]:
        return list(self._terms(text))

    @lru_cache(maxsize=10_000)  # noqa: B019  the texts of tests are many times the same
    def _terms(self, text: str) -> tuple[str, ...]:
        terms = standard_tokens(text)
        for each in self.filters:
            terms = each(terms)
        return tuple(terms)


def parse_analyzers(spec: Any) -> dict[str, CustomAnalyzer]:
    """The `analyzers` of a definition by their names.

    Raises:
        CommandError: what the service refuses, or 9999 for what is not modelled.
    """
    if spec is None:
        return {}
    if not isinstance(spec, list):
        raise bad_definition('"analyzers" must be a array')
    found: dict[str, CustomAnalyzer] = {}
    for number, item in enumerate(spec):
        made = _analyzer(item, f"analyzers[{number}]")
        if made.name in found:
            raise bad_definition('"analyzers" elements must have unique name')
        found[made.name] = made
    return found


def _analyzer(item: Any, where: str) -> CustomAnalyzer:
    if not isinstance(item, dict):
        raise bad_definition(f'"{where}" must be a document')
    _known(item, {"name", "charFilters", "tokenizer", "tokenFilters"}, where)
    name = item.get("name")
    if not isinstance(name, str):
        raise bad_definition(f'"{where}.name" is required')
    for prefix in _RESERVED:
        if name.startswith(prefix):
            raise bad_definition(f'"{where}.name" cannot begin with {prefix}')
    if item.get("charFilters"):
        raise unsupported("'charFilters' of an analyzer")
    tokenizer, filters = item.get("tokenizer"), item.get("tokenFilters", [])
    if not isinstance(tokenizer, dict):
        raise bad_definition(f'"{where}.tokenizer" is required')
    if _one_of(tokenizer, "type", _TOKENIZERS, f"{where}.tokenizer") != "standard":
        raise unsupported(f"the tokenizer {tokenizer['type']!r}")
    if "maxTokenLength" in tokenizer:
        raise unsupported("'maxTokenLength' of a tokenizer")
    _known(tokenizer, {"type"}, f"{where}.tokenizer")
    if not isinstance(filters, list):
        raise bad_definition(f'"{where}.tokenFilters" must be a array')
    return CustomAnalyzer(
        name, tuple(_filter(each, f"{where}.tokenFilters[{number}]") for number, each in enumerate(filters))
    )


def _filter(spec: Any, where: str) -> Filter:
    if not isinstance(spec, dict):
        raise bad_definition(f'"{where}" must be a document')
    kind = _one_of(spec, "type", _FILTERS, where)
    if kind in _PLAIN:
        _known(spec, {"type"}, where)
        return partial(_each, _PLAIN[kind])
    if kind == "snowballStemming":
        _known(spec, {"type", "stemmerName"}, where)
        name = _one_of(spec, "stemmerName", _STEMMERS, where)
        if name not in _SNOWBALL:
            raise unsupported(f"the stemmer {name!r}")
        return partial(_each, _SNOWBALL[name])
    if kind == "regex":
        return _regex(spec, where)
    if kind == "shingle":
        _known(spec, {"type", "minShingleSize", "maxShingleSize"}, where)
        if (spec.get("minShingleSize"), spec.get("maxShingleSize")) != (2, 2):
            raise unsupported("shingles of another size than two")
        return lambda terms: [" ".join(pair) for pair in pairwise(terms)]
    raise unsupported(f"the token filter {kind!r}")


def _regex(spec: Mapping[str, Any], where: str) -> Filter:
    _known(spec, {"type", "pattern", "replacement", "matches"}, where)
    for key in ("pattern", "replacement"):
        if not isinstance(spec.get(key), str):
            raise bad_definition(f'"{where}.{key}" is required')
    count = 1 if _one_of(spec, "matches", ("all", "first"), where) == "first" else 0
    if "$" in spec["replacement"] or "\\" in spec["replacement"]:
        raise unsupported("a replacement that refers to groups")
    pattern = re.compile(spec["pattern"])
    return lambda terms: [pattern.sub(spec["replacement"], term, count=count) for term in terms]


def _each(change: Callable[[str], str], terms: list[str]) -> list[str]:
    return [change(term) for term in terms]


def _known(document: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in document:
        if key not in keys:
            raise bad_definition(f'"{where}" unrecognized field "{key}"')


def _one_of(document: Mapping[str, Any], key: str, names: Sequence[str], where: str) -> str:
    if key not in document:
        raise bad_definition(f'"{where}.{key}" is required')
    if document[key] not in names:
        raise bad_definition(f'"{where}.{key}" must be one of [{", ".join(names)}]')
    return str(document[key])


# ---------------------------------------------------------------- filters


def _without_possessive(term: str) -> str:
    """Lucene's EnglishPossessiveFilter: 's with a straight, a typographic or a full-width apostrophe."""
    return term[:-2] if len(term) >= 2 and term[-2] in "'\u2019\uff07" and term[-1] in "sS" else term


_LETTERS = str.maketrans(dict(zip("øłđðþħŧŋ\u0131œæ\u2018\u2019", "o l d d th h t n i oe ae ' '".split(), strict=True)))


def fold(term: str) -> str:
    """Lucene's ICUFoldingFilter, for what people write: no case, no accents, no compatibility forms."""
    if term.isascii():
        return term.lower()
    bare = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", term).casefold())
    return "".join(c for c in bare if unicodedata.category(c) != "Mn").translate(_LETTERS)


def _snowball(name: str) -> Callable[[str], str]:
    stem: Callable[[str], str] = Stemmer(name, 0).stemWord
    return stem


_ENGLISH, _FRENCH, _SPANISH = map(_snowball, ("english", "french", "spanish"))


def _english(term: str) -> str:
    return term.removesuffix("s") if term.endswith(("ologist", "ologists")) else _ENGLISH(term)


def _french(term: str) -> str:
    elided, apostrophe, word = term.rpartition("'")
    return elided + apostrophe + _FRENCH(word)


def _spanish(term: str) -> str:
    return term if term.endswith("cion") else _SPANISH(term)


_VOWELS = "aeiouyäöü"
_UMLAUTS = {"ae": "ä", "oe": "ö", "ue": "ü"}


def _regions(word: str) -> tuple[int, int]:
    """Where the regions R1, which begins at the fourth letter at the earliest, and R2 begin."""
    found = re.match(rf".*?[{_VOWELS}][^{_VOWELS}]", word)
    first = found.end() if found else len(word)
    again = re.match(rf".*?[{_VOWELS}][^{_VOWELS}]", word[first:])
    return max(first, 3), first + again.end() if again else len(word)


def _german(term: str) -> str:
    """The German stemmer of Snowball 2, which Lucene has: that of Snowball 3 takes off more."""
    word = re.sub(rf"(?<=[{_VOWELS}])[uy](?=[{_VOWELS}])", lambda match: match[0].upper(), term.replace("ß", "ss"))
    word = re.sub("ae|oe|(?<!q)ue", lambda match: _UMLAUTS[match[0]], word)
    one, two = _regions(word)
    if ending := _ending(word, one, ("ern", "em", "er")):
        word = word if word.endswith("system") else word[: -len(ending)]
    elif ending := _ending(word, one, ("en", "es", "e")):
        word = word[: -len(ending)]
        word = word[:-1] if word.endswith("niss") else word
    elif _ending(word, one, ("s",)) and word[-2:-1] in tuple("bdfghklmnrt"):
        word = word[:-1]
    if ending := _ending(word, one, ("est", "en", "er")):
        word = word[: -len(ending)]
    elif _ending(word, one, ("st",)) and len(word) >= 6 and word[-3] in "bdfghklmnt":
        word = word[:-2]
    word = _german_derived(word, one, two)
    return word.lower().translate(str.maketrans("äöü", "aou"))


def _german_derived(word: str, one: int, two: int) -> str:
    endings = ("isch", "lich", "heit", "keit", "end", "ung", "ig", "ik")
    ending = next((each for each in endings if word.endswith(each)), "")
    if not ending or len(word) - len(ending) < two:
        return word
    rest = word[: -len(ending)]
    if ending in ("end", "ung"):
        return rest[:-2] if _ending(rest, two, ("ig",)) and rest[-3:-2] != "e" else rest
    if ending in ("ig", "ik", "isch"):
        return word if rest.endswith("e") else rest
    if ending in ("lich", "heit"):
        return rest[: -len(cut)] if (cut := _ending(rest, one, ("er", "en"))) else rest
    return rest[: -len(cut)] if (cut := _ending(rest, two, ("lich", "ig"))) else rest


def _ending(word: str, region: int, endings: tuple[str, ...]) -> str | None:
    """The first of the endings that the word has, if it lies in the region."""
    ending = next((each for each in endings if word.endswith(each)), None)
    return ending if ending and len(word) - len(ending) >= region else None


_PLAIN: dict[str, Callable[[str], str]] = {
    "englishPossessive": _without_possessive,
    "icuFolding": fold,
    "lowercase": str.lower,
}
_SNOWBALL: dict[str, Callable[[str], str]] = {
    "english": _english,
    "french": _french,
    "german": _german,
    "german2": _german,
    "spanish": _spanish,
    "dutch": _snowball("dutch_porter"),
} | {name: _snowball(name) for name in ("italian", "portuguese", "russian")}
