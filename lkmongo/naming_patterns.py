"""The patterns of claims and denials, over a turn in one form.

In it every word is folded, punctuation stands as a word of its own, a name is one sign, and so are words that say
nothing of who is speaking: `~` any, `&` a greeting, `%` an agreement, `!` a no before a pause.
"""

from __future__ import annotations

import re

from lkmongo import naming_words as of
from lkmongo.naming_words import any_of, whole

NAME, WHOLE, OWNED, OTHER = "@", "@2", "@s", "@x"
"""How a name stands there: a part of it, the whole, with a possessive, as the beginning of somebody else's."""

SYMBOLS = [
    (re.compile(whole(of.YOU_SPEAK_WITH)), "youspeakwith"),
    (re.compile(whole(of.FILLERS) + r"(?! (?:not|nicht|niet)\b)"), "~"),
    (re.compile(whole(of.GREETINGS)), "&"),
    (re.compile(whole(of.YES)), "%"),
    (re.compile(rf"{whole(of.NO)}(?= [,.])"), "!"),
]

_N, _OWNED = r"(?<!\S)@2?(?!\S)", rf"(?<!\S){OWNED}(?!\S)"
_NOT, _MINE, _THEIRS = whole(of.NEGATIONS), whole(of.MINE), whole(of.THEIRS)
_RELATION, _NUMBER, _AFTER = whole(of.RELATIONS), whole(of.NUMBERS), whole(of.AFTER)
_WORD = r"[^ .,?]+"
_CLAUSE, _SENTENCE = r"(?:^|(?<=[.,?] ))(?:[~%&!] )*", r"(?:^|(?<=[.?] ))(?:[~%&!,] )*"
_TURN = r"^(?:[~%&!,.] )*"
"""Where a clause, a sentence, the turn begins, with words that say nothing."""

_TO_NAME = rf"(?: (?:[~%]|{whole(of.LIGHT)}))*(?: , [~%] ,)? "
_THEIR_RELATION = rf"{_THEIRS}(?: {_WORD})? {_RELATION}"
_TAG = whole(
    "correct | is not it | is it | oder | or | nicht | nicht wahr | verdad | no | ne | vero | hein | toch | not"
)
_ENDS = (
    rf"(?: [~%&])*(?: {_AFTER}(?: [~%&])*)?(?= [.,]| {whole(of.GOES_ON)})"
    rf"(?!(?: [.,])? (?:[~%&!,] )*{_THEIR_RELATION})(?! ,(?: (?:[~%!,]|{_TAG}))* \?)"
)
"""Behind a claimed name: the end, or how a sentence goes on; no "isn't it?", and no "his wife, I mean"."""
_NOT_INTRODUCED = rf"(?!(?: ,)? (?:[~%] )?(?:{_MINE}|{_THEIRS})(?: {_WORD})? {_RELATION})"
_HAS_NOTHING_ELSE = r"^(?:[%!,.] |& [,.] )*(?:(?:& )?@2|@)(?: [%~]| (?:[,.] )?(?:[&%]|@2?))* \.$"
"""Nothing but the name. Without a pause, "hi Robin" may be said to somebody of that name."""


def _patterns(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(each) for each in patterns]


_CLAIMS = _patterns(
    rf"{_CLAUSE}{whole(f'{of.STRONG} | {of.IS_ME} | youspeakwith')}{_TO_NAME}{_N}{_ENDS}",
    rf"{_CLAUSE}{whole(of.IS_ME)}(?: [~%])*(?: ,)?{_TO_NAME}{_N}{_ENDS}",
    rf"{_SENTENCE}{whole(of.IN_SENTENCE)}{_TO_NAME}{_N}{_ENDS}{_NOT_INTRODUCED}",
    rf"{_TURN}{whole(of.IN_TURN)}{_TO_NAME}{_N}{_ENDS}{_NOT_INTRODUCED}",
    rf"{_SENTENCE}(?:die |der )?{_N}(?: ,)? {_AFTER}{_ENDS}{_NOT_INTRODUCED}",
    _HAS_NOTHING_ELSE,
)

_IS = whole("is am ist bin es est esta e n ne heeft wohnt do does did has can will would could habite")
_SAID = whole("said | says | sagt | sagte | meinte | meint | dijo | dice | dit | zei | ha detto | disse")
_IS_IT = whole(
    "is | ist | who is | wer ist | est ce | quien es | chi e | am i | bin ich | are you | sind sie | bist du"
    " | is this | is that | is it | ist da | ist das | ist hier | ist dort"
)
_NO_COPULA = "(?:no (?:soy|es|esta|estoy|hay)|non (?:sono|e|c e)|nao (?:sou|e))"
_TALK_TO = whole("parler a | hablar a | llamar a | parlare a | ligar a | falar a | telefonar a | ligar ao | falar ao")
_GUARDS = _patterns(
    _OWNED,
    rf"{_NOT}{_TO_NAME}{_N}",
    rf"(?<!\S){_NO_COPULA}{_TO_NAME}{_N}",
    rf"{_N}(?: [~%])*(?: {_IS})* (?:{_NOT}|no(?! [,.])|non|n est|n habite)(?!\S)",
    rf"{whole(of.OF)}(?: {whole(of.LIGHT_OF)})? {_N}",
    rf"{_TALK_TO} {_N}",
    rf"{_RELATION}(?: (?:,|called|named|namens|is|ist|es|est|heisst))* {_N}",
    rf"{_N}(?: ,)? (?:[~%!,] )*(?:i mean )?(?:i am |ich bin )?{_THEIR_RELATION}",
    rf"(?:i am|im|ich bin) {_THEIR_RELATION}",
    rf"{_N} (?!{_AFTER}){whole(of.THIRD)}",
    rf"{whole(of.SEEKS)}(?: {whole(of.LIGHT)})* {_N}",
    rf"(?<!\S)(?:%|se|s|il|elle) (?:chiama|llama|appelle|chama) {_N}",
    rf"{whole(of.THEY | of.THEIRS)}(?: {_WORD}){{0,4}} {_N}",
    rf"{whole(of.REPORTS)}[^.?]* {_N}",
    rf"{whole(of.REPORTS)} \. [^.?]*{_N}",
    rf"{_N}[^.?]* {whole(of.THEY)} {_SAID}",
    rf"{_CLAUSE}{_IS_IT}(?: {whole(of.LIGHT)})* {_N}",
    # "my last name is Smith"
    rf"{whole(of.NAME_IS)}(?: [~%])* (?:, )?(?!@|[~%&!.,?])(?!{whole(of.LIGHT)}|{whole(of.TITLES)})\S",
)
_IN_QUESTION = re.compile(rf"{_N}[^.]*\?")


def claims(form: str) -> bool:
    """Whether the name is claimed somewhere."""
    return any(each.search(form) for each in _CLAIMS)


def is_guarded(form: str) -> bool:
    """Whether the name is denied, owned, asked for, quoted, or said of somebody else, anywhere in the turn."""
    return any(each.search(form) for each in _GUARDS)


def in_question(form: str) -> bool:
    """Whether the name stands in a question."""
    return _IN_QUESTION.search(form) is not None


_KIND = rf"(?: {whole('own eigene eigenes phone mobile cell telephone')})*"
_OF_WHAT = "(?: de (?:telefono|telephone|telefone)| di telefono)?"
_OTHERS_PHONE = rf"(?:{_WORD}'s|somebody elses|someone elses)(?: (?:mobile|cell))? {_NUMBER}"
_WRONG = _patterns(
    rf"{_CLAUSE}(?:{any_of(of.I_THINK)} )?(?:{any_of(of.REACHED)} )*{any_of(of.WRONG)}"
    rf"(?: (?:{any_of(of.BEHIND_WRONG)}|[~%]))* [.,?]",
    whole(of.MISDIALLED),
    whole(of.SOMEBODY_ELSE),
    rf"{whole(of.NOT_ME)}(?= [.,?~%&!])",
    rf"(?:{_NOT}|(?<!\S)(?:no es|non e|nao e))(?: (?:o|il|really|wirklich|even))* {_MINE}{_KIND} {_NUMBER}{_OF_WHAT}"
    r"(?= (?:[.,?~%&!]|anymore|any|at|mehr|i|you|ich|sie|and|und|but|aber|either))",
    rf"{whole('from on using von vom mit borrowed')} (?:{_WORD} )?{_OTHERS_PHONE}",
    rf"{whole('this is | das ist | hier ist')} (?:{_MINE}|a|somebody|someone) (?:{_WORD} )?{_OTHERS_PHONE}",
)

_SELF = whole(
    "i am | im | this is | it is | its | ich bin | hier ist | hier spricht | soy | habla | je suis | c est | ik ben"
    " | dit is | sono | sou | aqui e"
)
_NOT_NAME = _patterns(
    rf"{_NOT}{_TO_NAME}{_N}",
    rf"(?<!\S)(?!no esta){_NO_COPULA}{_TO_NAME}{_N}",
    rf"(?<!\S)there is no {_N}|{_CLAUSE}no {_N} (?:here|lives|at)",
    rf"(?:{_N}|{_OWNED}) (?:(?:is|ist) )?(?:not|nicht|niet)(?: mehr| gerade| heute)? (?:{whole(of.AWAY)}|[.,~])",
    rf"{_N} {whole(of.GONE)}",
    rf"(?<!\S)not {_OWNED} {_NUMBER}",
    rf"{_CLAUSE}{_SELF} (?:the |die |der |la |le |el |il |a |o )?{_RELATION} {whole('of von vom de d di van do da')}"
    rf"(?: {whole(of.LIGHT_OF)})? {_N}",
    rf"{_CLAUSE}{_SELF} {_OWNED} (?:{_WORD} )?{_RELATION}",
    rf"{whole(of.FOR_SOMEBODY)} {_N}",
)
_OF_OTHERS = re.compile(
    rf"{whole((of.THEY | of.REPORTS) - {'er', 'elle'})}[^.?]*$"
    rf"|{_CLAUSE}{whole('is am are ist bin was why who')}(?: {_WORD})*$"
)


def is_wrong(form: str) -> bool:
    """Whether the caller says that they were reached by mistake, or are not on their own telephone."""
    return any(each.search(form) for each in _WRONG)


def denies_name(form: str) -> bool:
    """Whether the caller is not this person.

    Who reports that somebody else is not, or asks whether they are, says nothing.
    """
    found = (each.search(form) for each in _NOT_NAME)
    return any(match is not None and not _OF_OTHERS.search(form[: match.start()].rstrip()) for match in found)
