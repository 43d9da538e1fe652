"""Public sets of questions with known evidence: where they come from, and how they become scopes to search.

Nothing of them is kept in the repository. Each is read at a fixed commit, from a folder of repositories that are
already on this machine or from GitHub, and then cached. What one search looks through is a scope: one conversation, or
one set of paragraphs. The evidence of a question is the positions of the texts that answer it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from urllib.request import urlopen

Kind = Literal["turns", "messages", "sentences", "paragraphs"]
Json = Any
_SCENES = 25
"""Scenes that are put together to one scope, of some 550 turns: a scene alone is shorter than what a search returns."""
_DIALOGUES = 50
_ARTICLES = 10
_PIECE = 300
"""Words of a piece of an article, up to the end of the sentence."""
_WIDEST_SPAN = 12
"""Turns; a wider span of a meeting says where a subject is discussed, not which turn answers."""
_RECALLED = ("information_extraction", "knowledge_update", "contradiction_resolution", "multi_session_reasoning")
_ALSO_RECALLED = ("temporal_reasoning", "preference_following", "instruction_following")
"""Kinds of questions with evidence in few messages; the others ask for a summary or for what was never said."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the positions of the texts that answer it."""

    text: str
    evidence: frozenset[int]


@dataclass(frozen=True, slots=True)
class PublicScope:
    """What one search looks through."""

    texts: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A repository at a commit, and the licence it states for the data."""

    repository: str
    commit: str
    licence: str

    def address(self, path: str) -> str:
        """Where a file of it can be fetched."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(path)}"


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One set, in one language and of one kind of text; `read` is given a function from path to file."""

    name: str
    language: str
    kind: Kind
    source: Source
    read: Callable[[Callable[[str], str]], Iterator[PublicScope]]


class Files:
    """The files of sources: from `folder` when it has them, else from the cache, else from GitHub."""

    def __init__(self, folder: Path | None, cache: Path) -> None:
        """`folder` has, for each source, `owner+name` or `owner/name`: a git directory, a clone, or bare files."""
        self._folder = folder
        self._cache = cache

    def of(self, source: Source) -> Callable[[str], str]:
        """A function from a path in the source to the text of the file. Raises OSError."""
        return lambda path: self._read(source, path)

    def _read(self, source: Source, path: str) -> str:
        found = self._from_folder(source, path)
        if found is not None:
            return found
        kept = self._cache / source.repository / source.commit / path
        if not kept.exists():
            with urlopen(source.address(path), timeout=60) as answer:
                content = answer.read()
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
        return kept.read_text(encoding="utf-8")

    def _from_folder(self, source: Source, path: str) -> str | None:
        if self._folder is None:
            return None
        for name in (source.repository.replace("/", "+"), source.repository):
            for root in (self._folder / name, self._folder / name / "repo"):
                for git in (root / ".git", root):
                    if (git / "HEAD").is_file():
                        command = ["git", "-C", str(git), "show", f"{source.commit}:{path}"]
                        shown = subprocess.run(command, capture_output=True, check=False)
                        if shown.returncode == 0:
                            return shown.stdout.decode()
                if (root / path).is_file():
                    return (root / path).read_text(encoding="utf-8")
        return None


def _friends(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Turns of a television series; the question's answer lies in one turn."""
    for path in ("dat/friendsqa_dev.json", "dat/friendsqa_tst.json"):
        scenes = [scene["paragraphs"][0] for scene in json.loads(read(path))["data"]]
        for start in range(0, len(scenes), _SCENES):
            texts: list[str] = []
            questions: list[Question] = []
            for scene in scenes[start : start + _SCENES]:
                first = len(texts)
                texts += [_turn(" and ".join(turn["speakers"]), turn["utterance"]) for turn in scene["utterances:"]]
                for asked in scene["qas"]:
                    evidence = frozenset(first + answer["utterance_id"] for answer in asked["answers"])
                    questions.append(Question(_spoken(asked["question"]), evidence))
            yield _scope(texts, questions)


def _chats(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Three weeks of messages between two people who got to know each other."""
    for name in _CHATS:
        chat = json.loads(read(f"data/{name}.json"))
        numbers = sorted(int(key.split("_")[1]) for key in chat if re.fullmatch(r"session_\d+", key))
        turns = [turn for number in numbers for turn in chat[f"session_{number}"]]
        places = {turn["dia_id"]: place for place, turn in enumerate(turns)}
        texts = [_turn(turn["speaker"], turn["clean_text"]) for turn in turns]
        questions = [
            Question(asked["question"], frozenset(places[turn] for turn in asked["evidence"] if turn in places))
            for asked in chat["qa"]
        ]
        yield _scope(texts, questions)


_CHATS = (
    *("Chat_1_Emi_Elise", "Chat_2_Kevin_Elise", "Chat_3_Kevin_Paola", "Chat_4_Emi_Paola", "Chat_5_Nicolas_Nebraas"),
    *("Chat_6_Vanessa_Nicolas", "Chat_7_Nebraas_Vanessa", "Chat_8_Akib_Muhhamed", "Chat_9_Fahim_Akib"),
    "Chat_10_Fahim_Muhhamed",
)


def _meetings(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Turns of meetings of several people."""
    for part in ("val", "test"):
        for line in read(f"data/ALL/jsonl/{part}.jsonl").splitlines():
            meeting = json.loads(line)
            turns = meeting["meeting_transcripts"]
            texts = [_turn(turn["speaker"], re.sub(r"\{[a-z]+\}", "", turn["content"])) for turn in turns]
            questions = []
            for asked in meeting["specific_query_list"]:
                spans = [(int(first), int(last)) for first, last in asked["relevant_text_span"]]
                evidence = frozenset(place for first, last in spans for place in range(first, last + 1))
                if len(evidence) <= _WIDEST_SPAN:
                    questions.append(Question(asked["query"], evidence))
            yield _scope(texts, questions)


def _assistant(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Long conversations of one person with an assistant, whose messages have some 400 words."""
    for number in range(1, 21):
        folder = f"chats/100K/{number}"
        batches = json.loads(read(f"{folder}/chat.json"))
        messages = [message for batch in batches for turn in batch["turns"] for message in turn]
        places = {message["id"]: place for place, message in enumerate(messages)}
        texts = [re.sub(r"\s*->->.*$", "", message["content"]) for message in messages]
        probing = json.loads(read(f"{folder}/probing_questions/probing_questions.json"))
        yield _scope(
            texts,
            [
                Question(asked["question"], frozenset(places[i] for i in _ids(asked["source_chat_ids"]) if i in places))
                for kind in (*_RECALLED, *_ALSO_RECALLED)
                for asked in probing[kind]
            ],
        )


def _ids(named: Any) -> Iterator[int]:
    if isinstance(named, dict):
        named = list(named.values())
    if isinstance(named, list):
        for each in named:
            yield from _ids(each)
    elif isinstance(named, int):
        yield named


def _paragraphs(path: str, *, every: int = 1) -> Callable[[Callable[[str], str]], Iterator[PublicScope]]:
    """Questions on paragraphs of an encyclopedia, one scope."""

    def read_all(read: Callable[[str], str]) -> Iterator[PublicScope]:
        texts: list[str] = []
        questions: list[Question] = []
        for context, asked in _contexts(read(path)):
            texts.append(context)
            questions += [Question(each["question"], frozenset({len(texts) - 1})) for each in asked]
        yield _scope(texts, questions[::every])

    return read_all


def _sentences(path: str, *, every: int = 1) -> Callable[[Callable[[str], str]], Iterator[PublicScope]]:
    """The same, sentence by sentence, a scope for each tenth part: texts as short as a turn."""

    def read_all(read: Callable[[str], str]) -> Iterator[PublicScope]:
        contexts = list(_contexts(read(path)))
        size = -(-len(contexts) // (10 if len(contexts) > 500 else 4))
        for start in range(0, len(contexts), size):
            texts: list[str] = []
            questions: list[Question] = []
            for context, asked in contexts[start : start + size]:
                cut = list(_cut(context))
                first = len(texts)
                texts += [text for _, text in cut]
                questions += [_where(each, first, cut) for each in asked]
            yield _scope(texts, questions[::every])

    return read_all


def _articles(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Pieces of 300 words, all as long, of ten scientific articles."""
    articles = list(_contexts(read("data/question-answering/200423_covidQA.json")))
    for start in range(0, len(articles), _ARTICLES):
        texts: list[str] = []
        questions: list[Question] = []
        for context, asked in articles[start : start + _ARTICLES]:
            cut = list(_pieces(context))
            first = len(texts)
            texts += [text for _, text in cut]
            questions += [_where(each, first, cut) for each in asked]
        yield _scope(texts, questions)


def _group_chat(read: Callable[[str], str]) -> Iterator[PublicScope]:
    """Turns of people who help each other with Ubuntu."""
    dialogues = json.loads(read("MRC(withDiscourse)/test.json"))["data"]["dialogues"]
    for start in range(0, len(dialogues), _DIALOGUES):
        texts: list[str] = []
        questions: list[Question] = []
        for dialogue in dialogues[start : start + _DIALOGUES]:
            cut: list[tuple[int, str]] = []
            begins = 0  # the context is "speaker: text speaker: text"
            for turn in dialogue["edus"]:
                cut.append((begins, _turn(turn["speaker"], turn["text"])))
                begins += len(turn["speaker"]) + len(turn["text"]) + len(": ") + len(" ")
            first = len(texts)
            texts += [text for _, text in cut]
            questions += [_where(each, first, cut) for each in dialogue["qas"] if each["answers"]]
        yield _scope(texts, questions)


def _where(asked: Json, first: int, cut: Sequence[tuple[int, str]]) -> Question:
    """A question whose evidence is the piece in which its answer begins; the first piece is at `first`."""
    begins = asked["answers"][0]["answer_start"]
    place = max(number for number, (offset, _) in enumerate(cut) if offset <= begins)
    return Question(asked["question"], frozenset({first + place}))


def _pieces(context: str) -> Iterator[tuple[int, str]]:
    begins = words = 0
    for word in re.finditer(r"\S+\s*", context):
        words += 1
        if words >= _PIECE and word[0].rstrip().endswith((".", "!", "?")):
            yield begins, context[begins : word.end()]
            begins, words = word.end(), 0
    if begins < len(context):
        yield begins, context[begins:]


def _contexts(content: str) -> Iterator[tuple[str, list[Json]]]:
    for article in json.loads(content)["data"]:
        for paragraph in article["paragraphs"]:
            yield paragraph["context"], [asked for asked in paragraph["qas"] if asked["answers"]]


def _cut(context: str) -> Iterator[tuple[int, str]]:
    begins = 0
    for end in re.finditer(r"(?<=[.!?])\s+(?=[\"'„“¿¡(]?[A-ZÄÖÜÁÉÍÓÚÑ0-9])|(?<=。)", context):
        if end.end() - begins >= 20 or context[end.start() - 1] == "。":
            yield begins, context[begins : end.start()]
            begins = end.end()
    if begins < len(context):
        yield begins, context[begins:]


def _turn(speaker: str, text: str) -> str:
    return f"{speaker}: {_spoken(text)}"


def _spoken(text: str) -> str:
    """Without the spaces that a tokenizer has put before what belongs to a word: "Monica 's" is "Monica's"."""
    return re.sub(r"\s+(?=['\u2019](?:s|m|re|ve|ll|d|t)\b|n't\b|[.,?!])", "", text)


def _scope(texts: Sequence[str], questions: Sequence[Question]) -> PublicScope:
    """Without questions that have no evidence, and without empty texts: they stay as a dot, so that places hold."""
    return PublicScope(
        tuple(text if text.strip() else "." for text in texts), tuple(each for each in questions if each.evidence)
    )


_XQUAD = Source("google-deepmind/xquad", "7d30520c717524000f0d9d2f9c10a069acd9d285", "CC BY-SA 4.0")
_JGLUE = Source("yahoojapan/JGLUE", "6f071c09316baae89c3d083a90985b4b1cb9968c", "CC BY-SA 4.0")
_JAPANESE = "datasets/jsquad-v1.3/valid-v1.3.json"

PUBLIC_SETS = (
    PublicSet(
        "chats of two people",
        "en",
        "turns",
        Source("danny911kr/REALTALK", "b903e06a9770bf4e5fe9018c3e132889666d3b4a", "none stated"),
        _chats,
    ),
    PublicSet(
        "a television series",
        "en",
        "turns",
        Source("emorynlp/FriendsQA", "9ce6c98a6acf13c87d96b6811e4409b5de43bdfe", "Apache-2.0"),
        _friends,
    ),
    PublicSet(
        "meetings",
        "en",
        "turns",
        Source("Yale-LILY/QMSum", "83d7768c1f2b4dfeb091385d3dc7e239b8e5bb7e", "MIT"),
        _meetings,
    ),
    PublicSet(
        "an assistant's messages",
        "en",
        "messages",
        Source("mohammadtavakoli78/BEAM", "b2a3ee8ba12d68f83143dda191097dc3e028ddd3", "none stated"),
        _assistant,
    ),
    PublicSet("paragraphs, English", "en", "paragraphs", _XQUAD, _paragraphs("xquad.en.json", every=2)),
    PublicSet("paragraphs, German", "de", "paragraphs", _XQUAD, _paragraphs("xquad.de.json", every=2)),
    PublicSet("paragraphs, Spanish", "es", "paragraphs", _XQUAD, _paragraphs("xquad.es.json", every=2)),
    PublicSet("paragraphs, Japanese", "ja", "paragraphs", _JGLUE, _paragraphs(_JAPANESE, every=5)),
    PublicSet("sentences, English", "en", "sentences", _XQUAD, _sentences("xquad.en.json", every=2)),
    PublicSet("sentences, German", "de", "sentences", _XQUAD, _sentences("xquad.de.json", every=2)),
    PublicSet("sentences, Spanish", "es", "sentences", _XQUAD, _sentences("xquad.es.json", every=2)),
    PublicSet("sentences, Japanese", "ja", "sentences", _JGLUE, _sentences(_JAPANESE, every=5)),
)

OTHER_SETS = (
    PublicSet(
        "people who help each other",
        "en",
        "turns",
        Source("HIT-SCIR/Molweni", "2eb681d7e610ee3fda4ab3b4cc364554bd17ee67", "Apache-2.0"),
        _group_chat,
    ),
    PublicSet(
        "pieces of articles",
        "en",
        "messages",
        Source("deepset-ai/COVID-QA", "fb2eb5e249618457e5359806601086c635c8eb8f", "Apache-2.0"),
        _articles,
    ),
)
"""Reported apart: nothing is fitted on them, not even in turn."""
