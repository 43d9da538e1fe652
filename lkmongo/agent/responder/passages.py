"""The best-fitting one to three sentences of what the knowledge base found, as plain text that can be spoken."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass

from lkmongo.agent.responder.clauses import sentences
from lkmongo.agent.responder.text import content_words

_LONGEST = 320
"""Characters after which no further sentence is added."""
_SYNONYMS = {
    word: group[0]
    for synonyms in (
        "return send_back bring_back give_back refund money_back reimburse",
        "ship deliver shipping delivery shipment dispatch arrive send courier carrier postage",
        "cost price fee charge pay expensive payment dollar euro free cheap",
        "open hour time close available weekday weekend daily",
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
_EXPECTED = (
    (
        re.compile(r"how much|what (?:does|do|is|are) .*\b(?:cost|price|fee)|is .*\bfree\b", re.IGNORECASE),
        re.compile(r"\d.*\b(?:dollars?|euros?|percent|cents?)\b|[$€£]|\bfree\b|no (?:fee|charge)", re.IGNORECASE),
    ),
    (
        re.compile(
            r"how (?:long|soon|late|early|fast|often)|when|what time|until when|by when|(?:what|which) (?:days?|hours?)|.*\bhours\b|how many (?:days|weeks)",
            re.IGNORECASE,
        ),
        re.compile(
            r"\b(?:days?|weeks?|months?|years?|hours?|minutes?|[ap]\.m|monday|sunday|saturday|noon|midnight|never)\b",
            re.IGNORECASE,
        ),
    ),
    (
        re.compile(r"how (?:many|old|far)", re.IGNORECASE),
        re.compile(r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve)\b", re.IGNORECASE),
    ),
)
"""What an answer has in it, by how the question begins: money, a time, a number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say, and how sure it is to answer the question: the share of its words that were found.

    `of_passages`: whether it was chosen out of passages; else it is the tool's own sentence.
    """

    text: str
    fit: float
    of_passages: bool = True


_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|-])")
_PRIVATE = 0xE000
_ROW = re.compile(r"[\w ]{1,40}: [^;]+(?:; [\w ]{1,40}: [^;]+)+$")
"""A row of a table that names its columns: "Speed: Express; Price: 14.95 dollars"."""


def plain(markdown: str) -> str:
    """Markdown without its marks; headings go, list items and table rows become sentences."""
    lines: list[str] = []
    for raw in re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL).splitlines():
        line = raw.strip()
        if re.match(r"#{1,6} |[-=*_]{3,}$|\|?[\s:|-]+\|[\s:|-]*$", line):
            lines.append("")
            continue
        item = re.match(r"(?:[-*+]|\d+[.)]) +", line)
        line = re.sub(r"^(?:> *)+|^(?:[-*+]|\d+[.)]) +", "", line)
        if line.startswith("|"):
            line = ", ".join(cell.strip() for cell in line.strip("|").split("|") if cell.strip())
            item = item or re.match("", line)
        if item and lines and lines[-1] and not re.search(r"[.!?:;,]$", lines[-1]):
            lines[-1] += "."
        if item or _ROW.match(line):
            lines.append("")
        lines.append(
            line + ("." if item and line and not re.search(r"[.!?:;,]$", line) and raw.strip().startswith("|") else "")
        )
    # Escaped marks are put out of the way in the private use area, and back as plain characters in the end.
    text = _ESCAPED.sub(lambda match: chr(_PRIVATE + ord(match[1])), "\n".join(lines))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<[^<>\n]{1,200}>", "", text)
    text = re.sub(r"(\*\*|__|\*|`|~~)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)", r"\1", text)
    text = re.sub("[\ue000-\ue07f]", lambda match: chr(ord(match[0]) - _PRIVATE), text)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return "\n".join(part for part in paragraphs if part)


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
    for word in "long much many take need want know tell possible information work use give say day time thing".split()
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
    wanted = list(dict.fromkeys(_terms(question)))
    everywhere = [set(_terms(sentence)) for _, said in passages for sentence in said]
    seen = Counter(term for terms in everywhere for term in terms)
    weight = {
        term: math.log(1 + len(everywhere) / (1 + seen[term])) * (0.2 if term in _GENERAL else 1.0) for term in wanted
    }
    total = sum(weight.values()) or 1.0
    expected = next((there for asked, there in _EXPECTED if asked.match(question)), None)
    best, place, best_fit = -1.0, (0, 0), 0.0
    for rank, (title, said) in enumerate(passages):
        of_title = set(_terms(title))
        groups_of_title = {_STEMMED.get(term, term) for term in of_title}
        for index, sentence in enumerate(said):
            terms = set(_terms(sentence))
            groups = {_STEMMED.get(term, term) for term in terms}
            fit = 0.0
            for term, value in weight.items():
                group = _STEMMED.get(term, term)
                share = 1.0 if term in terms else 0.7 if group in groups else 0.0
                if term in of_title or group in groups_of_title:
                    share = max(share, 0.9 if term in of_title else 0.6)
                fit += share * value
            score = fit / total - 0.1 * rank - 0.03 * index
            if expected and expected.search(sentence):
                score += 0.25
            if score > best:
                best, place, best_fit = score, (rank, index), fit / total
    return Answer(_around(passages[place[0]][1], place[1]), best_fit)


_LEANS_BACK = re.compile(
    r"(?:it|they|this|that|these|those|he|she|then|after that|otherwise|however|but|and|both)\b", re.IGNORECASE
)


def _around(said: list[str], index: int) -> str:
    """The chosen sentence, the one before when it leans on that, and the one after while it stays short."""
    if _ROW.match(said[index]):
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
