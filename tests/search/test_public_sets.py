"""The public sets of the retrieval benchmark are read so that the evidence of a question holds its answer."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks import public_data
from benchmarks.public_data import OTHER_SETS, PUBLIC_SETS, Files, PublicSet, Source

CONTEXT = "Marta lives in Lisbon. She has two dogs, 7 and 9 years old. Her sister is a nurse in Porto."
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {"context": "Nothing of it is said here.", "qas": []},
                {
                    "context": CONTEXT,
                    "qas": [
                        {"question": "Where does she live?", "answers": [{"answer_start": CONTEXT.index("Lisbon")}]},
                        {"question": "What is the sister?", "answers": [{"answer_start": CONTEXT.index("a nurse")}]},
                        {"question": "Unanswered?", "answers": []},
                    ],
                },
            ]
        }
    ]
}
SCENE = {
    "utterances:": [
        {"uid": 0, "speakers": ["Monica"], "utterance": "You 're late ."},
        {"uid": 1, "speakers": ["Ross", "Joey"], "utterance": "It 's the traffic ."},
    ],
    "qas": [{"question": "Why are they late ?", "answers": [{"utterance_id": 1}]}],
}

DIALOGUE = {
    "edus": [{"speaker": "Ann", "text": "is it up ?"}, {"speaker": "Bo", "text": "reboot it"}],
    "context": "ann: is it up ? bo: reboot it",
    "qas": [
        {"question": "What is advised?", "answers": [{"answer_start": 20}]},
        {"question": "Unanswered?", "answers": []},
    ],
}
ARTICLE = {
    "paragraphs": [
        {
            "context": "word " * 310 + "end. Masks helped.",
            "qas": [{"question": "What helped?", "answers": [{"answer_start": 1555}]}],
        }
    ]
}


@pytest.fixture
def files(tmp_path):
    def put(source, path, content):
        file = tmp_path / source.replace("/", "+") / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    put("google-deepmind/xquad", "xquad.en.json", SQUAD)
    put("emorynlp/FriendsQA", "dat/friendsqa_dev.json", {"data": [{"paragraphs": [SCENE]}, {"paragraphs": [SCENE]}]})
    put("emorynlp/FriendsQA", "dat/friendsqa_tst.json", {"data": []})
    put("HIT-SCIR/Molweni", "MRC(withDiscourse)/test.json", {"data": {"dialogues": [DIALOGUE]}})
    put("deepset-ai/COVID-QA", "data/question-answering/200423_covidQA.json", {"data": [ARTICLE, ARTICLE]})
    return Files(tmp_path, tmp_path / "cache")


def scopes(files, name):
    (found,) = [each for each in (*PUBLIC_SETS, *OTHER_SETS) if each.name == name]
    return list(found.read(files.of(found.source)))


def evidence(scope, question):
    (asked,) = [each for each in scope.questions if each.text == question]
    return {scope.texts[place] for place in asked.evidence}


def test_a_paragraph_answers_its_questions(files):
    (scope,) = scopes(files, "paragraphs, English")
    assert [asked.text for asked in scope.questions] == ["Where does she live?"], "every second one"
    assert evidence(scope, "Where does she live?") == {CONTEXT}


def test_the_sentence_with_the_answer_is_the_evidence(files):
    found = public_data._sentences("xquad.en.json")(files.of(PUBLIC_SETS[-4].source))
    scope = next(each for each in found if each.questions)
    assert evidence(scope, "Where does she live?") == {"Marta lives in Lisbon."}
    assert evidence(scope, "What is the sister?") == {"Her sister is a nurse in Porto."}


def test_scenes_are_put_together_and_turns_say_who_speaks(files):
    scope = scopes(files, "a television series")[0]
    assert scope.texts == ("Monica: You're late.", "Ross and Joey: It's the traffic.") * 2
    assert [sorted(asked.evidence) for asked in scope.questions] == [[1], [3]]
    assert scope.questions[0].text == "Why are they late?"


def test_a_file_is_read_from_a_repository_at_its_commit(tmp_path):
    clone = tmp_path / "some+where"
    clone.mkdir()
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    for text in ("first", "second"):
        (clone / "a.txt").write_text(text)
        subprocess.run([*git, "add", "a.txt"], check=True)
        subprocess.run([*git, "commit", "-qm", text], check=True)
    shown = subprocess.run([*git, "rev-parse", "HEAD~1"], check=True, capture_output=True, text=True)
    source = Source("some/where", shown.stdout.strip(), "MIT")
    assert Files(tmp_path, tmp_path / "cache").of(source)("a.txt") == "first"
    assert source.address("a b.txt").endswith(f"/some/where/{source.commit}/a%20b.txt")


def test_every_set_names_a_commit_and_a_licence():
    assert len({each.name for each in PUBLIC_SETS}) == len(PUBLIC_SETS) >= 12
    assert {each.language for each in PUBLIC_SETS} == {"en", "de", "es", "ja"}
    for each in PUBLIC_SETS:
        assert isinstance(each, PublicSet)
        assert len(each.source.commit) == 40
        assert each.source.licence


def test_an_answer_in_a_chat_is_found_by_its_place_in_the_whole(files):
    (scope,) = scopes(files, "people who help each other")
    assert scope.texts == ("Ann: is it up?", "Bo: reboot it")
    assert [sorted(asked.evidence) for asked in scope.questions] == [[1]]


def test_articles_are_cut_at_the_end_of_a_sentence(files):
    (scope,) = scopes(files, "pieces of articles")
    assert [len(text.split()) for text in scope.texts] == [311, 2, 311, 2]
    assert [sorted(asked.evidence) for asked in scope.questions] == [[1], [3]]
