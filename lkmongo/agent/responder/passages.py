"""The best-fitting one to three sentences of what the knowledge base found, as plain text that can be spoken."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass

from lkmongo.agent.responder.clauses import sentences
from lkmongo.agent.responder.plain_text import ROW, plain
from lkmongo.agent.responder.text import content_words
from lkmongo.agent.responder.vocabulary import word_set

_LONGEST = 320
"""Characters after which no further sentence is added."""
_SYNONYMS = {
    word: group[0]
    for synonyms in (
        "return send_back bring_back give_back refund money_back reimburse",
        "ship deliver shipping delivery shipment dispatch arrive send courier carrier postage",
        "cost price fee charge pay expensive payment dollar euro free cheap",
        "open hour time close available weekday weekend daily monday friday saturday sunday",
        "contact reach phone call email chat telephone",
        "warranty guarantee repair broken defect fault",
        "cancel revoke withdraw",
        "account login password register sign",
        "country abroad international canada europe worldwide overseas",
        "dog cat pet animal",
        "wifi wireless internet network",
    )
    for group in [synonyms.split()]
    for word in group
}
_EXPECTED = tuple(
    (re.compile(asked, re.IGNORECASE), re.compile(there, re.IGNORECASE), bonus)
    for asked, there, bonus in (
        (r".*\b(?:tele)?phone number\b|.*\bnumber .*\bcall\b", r"\d{3}[- ]\d{4}", 0.9),
        (r".*\b(?:email|mail) address\b", r"\S@\S", 0.9),
        (
            r".*\b(?:opening|business|office) (?:hours|times)|when (?:do|are) you (?:open|close)|.*\bhours\b",
            r"\d ?[ap]\.?m\b|\b(?:monday|weekdays?|around the clock)\b.*\d",
            0.25,
        ),
        (
            r"how much|what (?:does|do|is|are) .*\b(?:cost|price|fee)|is .*\bfree\b",
            r"\d.*\b(?:dollars?|euros?|percent|cents?)\b|[$€£]|\bfree\b|no (?:fee|charge)",
            0.25,
        ),
        (
            r"how (?:long|soon|late|early|fast|often)|when|what time|until when|by when|(?:what|which) (?:days?|hours?)|how many (?:days|weeks)",
            r"\b(?:days?|weeks?|months?|years?|hours?|minutes?|[ap]\.m|monday|sunday|saturday|noon|midnight|never)\b",
            0.25,
        ),
        (r"how (?:many|old|far)", r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve)\b", 0.25),
    )
)
"""How a question begins, what its answer has in it (money, a time, a number), and how much that counts for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say, and how sure it is to answer the question: the share of its words that were found.

    `of_passages`: whether it was chosen out of passages; else it is the tool's own sentence.
    """

    text: str
    fit: float
    of_passages: bool = True


_ENDINGS = (
    ("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ss", "ss"), ("s", ""), ("ly", "")
)  # fmt: skip


def stem(word: str) -> str:
    """A word without its commonest endings, so that "returned" and "returns" meet."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def _terms(text: str) -> list[str]:
    return [stem(word) for word in content_words(text)]


_GENERAL = {
    stem(word)
    for word in word_set(
        "long much many take need want know tell possible information work use give say day time thing sell offer accept carry provide help find something anything everything someone stuff"
    )
}
"""Words of questions that say little of what is asked about."""
_STEMMED = {stem(word): stem(first) for word, first in _SYNONYMS.items()}


def best_answer(output: str, question: str) -> Answer | None:
    """Choose what to say out of the output of `search_knowledge`.

    Args:
        output: `{"results": [{"title", "content", "source"}]}`, best first; anything else is a sentence already.
        question: what was asked.

    Returns:
        None when there is nothing in it; the text as it is, when it is no such JSON.
    """
    try:
        data = json.loads(output)
    except (ValueError, RecursionError):
        return Answer(output.strip(), 1.0, of_passages=False) if output.strip() else None
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list):
        return None
    passages = [
        (
            str(result.get("title") or ""),
            [sentence for part in plain(str(result.get("content") or "")).split("\n") for sentence in sentences(part)],
        )
        for result in results
        if isinstance(result, dict)
    ]
    passages = [(title, said) for title, said in passages if said]
    return _choose(passages, question) if passages else None


def _choose(passages: list[tuple[str, list[str]]], question: str) -> Answer:
    everywhere = [set(_terms(sentence)) for _, said in passages for sentence in said]
    seen = Counter(term for terms in everywhere for term in terms)
    weights = {term: _rarity(term, len(everywhere), seen[term]) for term in dict.fromkeys(_terms(question))}
    _, expected, bonus = next((row for row in _EXPECTED if row[0].match(question)), (None, None, 0.0))
    best, place, best_fit = -1.0, (0, 0), 0.0
    for rank, (title, said) in enumerate(passages):
        of_title = _terms(title)
        for index, sentence in enumerate(said):
            fit = _fit(weights, _terms(sentence), of_title)
            score = fit - 0.1 * rank - 0.03 * index + (bonus if expected and expected.search(sentence) else 0.0)
            if score > best:
                best, place, best_fit = score, (rank, index), fit
    return Answer(_around(passages[place[0]][1], place[1]), best_fit)


def _rarity(term: str, sentences_there_are: int, seen: int) -> float:
    return math.log(1 + sentences_there_are / (1 + seen)) * (0.1 if term in _GENERAL else 1.0)


def _fit(weights: dict[str, float], of_sentence: list[str], of_title: list[str]) -> float:
    """The share of a question's words, by weight, that a sentence or its title holds; words of like meaning count less."""
    found = 0.0
    for term, weight in weights.items():
        group = _group(term)
        in_sentence = 1.0 if term in of_sentence else 0.7 * (group in map(_group, of_sentence))
        in_title = 0.9 if term in of_title else 0.6 * (group in map(_group, of_title))
        found += weight * max(in_sentence, in_title)
    return found / (sum(weights.values()) or 1.0)


def _group(term: str) -> str:
    return _STEMMED.get(term, term)


_LEANS_BACK = re.compile(
    r"(?:it|they|this|that|these|those|he|she|then|after that|otherwise|however|but|and|both)\b", re.IGNORECASE
)


def _around(said: list[str], index: int) -> str:
    """The chosen sentence, the one before when it leans on that, and the one after while it stays short."""
    if ROW.match(said[index]):
        return said[index].replace("; ", ", ")
    first = index - 1 if index and _LEANS_BACK.match(said[index]) else index
    chosen = said[first : index + 1]
    for sentence in said[index + 1 :]:
        if len(chosen) == 3 or sum(map(len, chosen)) + len(sentence) > _LONGEST:
            break
        chosen.append(sentence)
        if len(chosen) >= 2 and not _LEANS_BACK.match(sentence):
            break
    return " ".join(sentence if re.search(r"[.!?:;]['\")]*$", sentence) else f"{sentence}." for sentence in chosen)
