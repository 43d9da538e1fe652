"""Secrets that are named by their kind ("my PIN is 1234", "swordfish is my password"). All read the plain form.

It handles transcribed speech: digits in groups, the kind before the value or after it, in English and, by keyword, in
some other languages. A kind without a value ("I forgot my PIN") is not a secret, and neither are the numbers of other
things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lkmongo.detectors.numbers import CARD_NAME, HARMLESS_CARD, RUN, digits, is_harmless_number
from lkmongo.detectors.plain import HIDDEN, Found, has_number_words

_I = re.IGNORECASE

# ------------------------------------------------------------------ kinds: "password", "PIN", "card number"


def _words(*patterns: str) -> str:
    return rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)"


_NO_OTHER = r"(?<!\bbowling )(?<!\brolling )(?<!\bsafety )(?<!\bhair )(?<!\bhat )"
"""Pins that are not PINs."""
_WORD_KIND = _words(
    "pass[ -]?(?:words?|phrases?|codes?)", "(?:seed|recovery) phrase", "pwd?",
    "passwor[td]", "kennwort", "wachtwoord", "mot de passe",
    "contrase[nñ]as?", "palavra-passe", "senha", "parola d'ordine", "пароль",
) + "|密码|密碼|パスワード|비밀번호"  # fmt: skip
_KEY_KIND = _words("(?:api|access|secret|private|encryption|auth|bearer)[ -](?:key|token)s?")
_PIN_KIND = _words(
    rf"{_NO_OTHER}pin(?:[ -]?(?:codes?|numbers?|nummer|s))?", r"p[. ]i[. ]n",
    "geheimzahl", "code (?:secret|confidentiel)", "nip", "clave(?: secreta)?", "cv[vc]2?", "cv2", "c[. ]v[. ][vc]",
    "(?:card )?verification (?:value|number)", "(?:security|secret|access|unlock) code", "code on the back",
    "security number", "puk", "m-?pin",
    "sicherheitscode", "(?:karten)?prüf(?:nummer|ziffer)",
    "cryptogramme", "code de sécurité", "código de segu(?:ridad|rança)", "codice di sicurezza",
) + "|暗証番号"  # fmt: skip
_CODE_KIND = _words(
    "(?:(?:one|1)[ -]time|verification|authentication|recovery|backup|2fa|two[ -]factor|sms)[ -](?:pass)?codes?",
    "otp",
    "tan",
)
_NATIONAL_KIND = _words(
    # social security and tax
    "ssn", "s[. ]s[. ]n", "(?:(?:my|her|his) )?social (?:security|insurance)", "(?:my|her|his) social",
    "national insurance", "bsn", "burgerservicenummer", "cpf", "dni", "n[.]?i[.]?e[.]?(?= )", "nino", "nir", "itin",
    "tax(?:payer)? id", "aadhaa?r", "codice fiscale",
    "sécurité sociale", "seguridad social", r"(?:sozial|renten)versicherungs\w+", r"steuer-?(?:id\w*|nummer)",
    r"steuerliche identifikations\w+",
    # identity papers
    "passport", "passeport", "pasaporte", "passaporto", "passaporte", "reisepass(?:nummer)?",
    "driv(?:er|ers|er's|ing) licen[sc]e", "führerschein(?:nummer)?", "permis de conduire",
    "(?:identity|id) card", "national id", "personalausweis(?:nummer)?", "carte d'identité",
)  # fmt: skip
_ACCOUNT_KIND = _words(
    "(?:bank(?:ing)?|checking|savings|current|giro) account", "sort code", "routing (?:number|no)", "iban",
    "kontonummer", "rekeningnummer", "numéro de compte", "número (?:de cuenta|da conta)", "numero di conto",
)  # fmt: skip
_CARD_KIND = _words(
    "(?:(?:credit|debit|bank|visa|master) ?)?card (?:numbers?|no[.]?)", "number (?:on|of) (?:the|my) card",
    "(?:kredit)?karten-?nummer", "numéro de (?:la |ma )?carte", "número de (?:la |mi )?tarjeta",
    "numero (?:di|della) (?:mia )?carta", "kaartnummer", "número do (?:meu )?cartão",
)  # fmt: skip
_KIND = re.compile(
    rf"(?P<card>{_CARD_KIND})|(?P<word>{_WORD_KIND})|(?P<key>{_KEY_KIND})|(?P<pin>{_PIN_KIND})|(?P<code>{_CODE_KIND})|"
    rf"(?P<national>{_NATIONAL_KIND})|(?P<account>{_ACCOUNT_KIND})",
    _I,
)
_KIND_OF = {"card": "card", "national": "national_id", "account": "bank_account"}
"""The kind of what a group names; of the others it is `secret`."""
_OF_ANOTHER_KIND = re.compile(
    r"[ -](?:managers?|resets?|polic(?:y|ies)|hints?|protect\w*|change|field|page|link|e?-?mail|screen|prompt|"
    r"problems?|issues?|boards?|collections?|cushions?|badges?|stripes?|wheels?|offices?|"
    r"holder|expir\w+|renewal|control|media|life)\b",
    _I,
)
_LABEL = re.compile(
    rf"{_NO_OTHER}\b(?:pass ?(?:words?|codes?|phrases?)|passwort|kennwort|wachtwoord|mot de passe|contrase[nñ]a|senha|"
    r"pin(?: ?(?:code|number|nummer))?|geheimzahl|cv[vc]2?|security code|ssn|"
    r"social security(?: number)?|one time code|otp|(?:recovery|backup) codes?|"
    r"(?:seed|recovery) phrase|(?:api|access|secret|private) (?:keys?|tokens?))\b"
    r"(?! (?:managers?|resets?|polic(?:y|ies)|boards?|collections?|cushions?|badges?|changed)\b)",
    _I,
)
"""A slot with such a name holds a secret, whatever its content."""

# ------------------------------------------------------------------ values: what they look like

_PIECE = r"(?:[a-z]{0,6}-?\d[a-z\d]*|[a-z]{2} (?=\d\d \d\d )|[a-z]\b)"
_NUMBERED = re.compile(rf"{_PIECE}(?:[ .-]{{0,3}}{_PIECE})*", _I)
_LEAST_DIGITS = {"pin": 3, "code": 4, "national": 4, "account": 4, "card": 4}
"""Kinds whose value is a number, and how many digits it has at least."""
_LEAST_OF_A_KEY = 8
_HOW_MANY = re.compile(r"\d+ (?:characters?|letters?|digits?|signs?|times?|days?|weeks?|months?|years?)\b", _I)
_TOKEN = re.compile(r"[^\s\"]{1,200}")
_MIXED = re.compile(r"(?!\d+(?:st|nd|rd|th|am|pm|min)$)(?=.*[^\W\d_])(?=.*[\d!@#$%^&*+=]).{4,}", _I)
"""Letters mixed with digits or symbols: not a word of any language."""

# ------------------------------------------------------------------ between a kind and its value

_BE = r"(?:is|are|was|were|be|reads|equals|ist|lautet|war|est|c'est|es|era|é|è|será|sera)"
_COPULA = re.compile(rf"(?<!\w)(?:{_BE}|s)(?!\w)|[:=はが是为為]", _I)
_FILLERS = re.compile(
    rf"(?:[\s,;:=.?!\"'()>*#\u2013\u2014はが是为為-]|(?<!\w)(?:{_BE}|its|it|that|this|which|has|have|been|changed|"
    r"set|to|now|currently|really|just|actually|simply|still|the|as|of|says|will|would|should|numbers?|nummer|numéro|número|numero|"
    r"no|nr|codes?|id|i think|i guess|jetzt|maintenant|ahora|s)(?!\w))*",
    _I,
)
_LEAD_IN = re.compile(
    r"(?:(?:yes|yeah|ok|okay|sure|well|no|so|and|then|again|just|please|um+|uh+|its?|it's|is|that|that's|this|the|"
    r"number|code|pin|password|i said|i think|remember|es|c'est|ist)(?![\w'])[\s,.:!]*)*",
    _I,
)
_PRESSED = re.compile("pressed ", _I)
"""How a turn begins that was made of keys."""
_TAIL = re.compile(r"[\s,.!?]*(?:\b(?:please|thanks|thank you|okay|ok|right)[\s,.!?]*)*$", _I)
_NEAR = 200
"""Characters before a kind in which its value is searched for."""
_LONGEST_ANSWER = 100
_LAST_WORDS = re.compile(r"(?:\W+[\w'-]+){0,3}\W*")
_ARTICLE = re.compile(r"(?:(?:ok|okay|well|so|and|then|my|the|our|a)\b\W*)*", _I)
_ASKED = re.compile(r"\b(?:what|know|whether|if|how|where|which|why)\b", _I)
_FURTHER_ON = re.compile(rf"(?P<words>(?:\s+[\w'&-]+){{1,8}}?)\s*(?:(?<!\w){_BE}(?!\w)|[:=])", _I)
_AND = re.compile(r"\b(?:and|but|or|because|und|aber|et|mais|y|pero)\b", _I)
_WHICH_IS = re.compile(
    rf"[\"']?(?:\s*(?:(?<!\w)(?:{_BE}|as|for)(?!\w)|=)|[,;.]?\s*(?:that|this|it|which)(?:'s|\s+is)|\s*[,(]\s*(?=my\b))\s*"
    r"(?:[\w'-]+\s+){0,5}$",
    _I,
)
_VALUE_FIRST = re.compile(
    r"(?:^|[.!?;,:]\s*|\b(?:that|use|set|make|note|remember|store|save)\s+)[\"']?(?P<value>[^\s\"']{3,})[\"']?\s+"
    rf"(?:{_BE}|as|=)\s+(?:my|the|our|mein|mi|mon|meu|minha|il mio|la mia)\s+(?:[\w'-]+\s+){{0,3}}$",
    _I,
)
_NO_VALUE = frozenset(
    """
    not no never wrong incorrect invalid expired lost gone forgotten being too required needed working safe secure
    strong weak reset changed old same missing blocked locked still so very what where how why when who whether case
    kept stored saved private secret confidential important hard easy short long in on at for from with without about
    an and or but because if unknown compromised leaked stolen always also only enough problem issue ready there here
    good bad fine correct right accepted rejected denied hidden protected me you they it that this none nothing mine
    yours impossible optional supposed going getting asked encrypted falsch nicht weg vergessen abgelaufen ungültig zu
    pas perdu oublié incorrecta incorrecto olvidada olvidado errata sbagliata
    """.split()
)
_NO_SUBJECT = _NO_VALUE | frozenset(
    "question thing answer reason point one he she trouble worst first last email name".split()
)
_NO_ANSWER = _NO_VALUE | frozenset(
    "yes yeah yep no nope ok okay sure hello hi hey thanks thank please sorry pardon um uh well maybe later bye stop "
    "what ja nein oui non sí si sim não nee wait moment again help agent operator human".split()
)
"""Words that answer a question for a password with something else."""
_AROUND = ".,;:!?'()"

# A part of every kind's words: searching for these takes a tenth of the time.
_STEMS_OF_WORDS = (
    *"pw pass phrase kennw wachtw contrase senha parola парол 密 パス 비밀 key token :// eyj -----".split(),
    "mot de",
)
_STEMS = (
    *_STEMS_OF_WORDS,
    *"pin puk p.i.n geheim code nip clave cv c.v verif sicherheits prüf crypto código codice 暗証 otp tan".split(),
    *"ssn s.s.n social insur bsn security cpf dni itin tax aadhaar sécu segu versich steuer".split(),
    *"account routing iban konto rekening compte cuenta conta conto".split(),
    *"pasaporte licen führer permis identi national ausweis".split(),
    *("p i n", "s s n", "c v", "id card"),
)
_CARD_STEMS = ("card", "kart", "kaart", "carte", "carta", "cartão", "tarjeta", "amex")

_SENTENCE = re.compile(r"[^.!?;]*[.!?;]*\s*$")
_REQUEST = re.compile(
    r"\b(?:what|which|tell|give|read|say|spell|enter|provide|type|repeat|confirm|may i|can i|could i|need|have|send|"
    r"wie|nennen|sagen|geben|lautet|quel|donne[rz]|dites|cuál|diga|dígame|qual|dimmi|welk)\b",
    _I,
)
"""How a question for a secret begins."""


def _has(text: str, stems: Iterable[str]) -> bool:
    folded = text.casefold()
    return any(stem in folded for stem in stems)


def may_hold(text: str) -> bool:
    """Whether it is worth reading a text, which need not be in plain form."""
    return has_digits(text) or _has(text, _STEMS_OF_WORDS)


def may_name(text: str) -> bool:
    """Whether it is worth looking for the name of a kind."""
    return _has(text, _STEMS) or _has(text, _CARD_STEMS)


def has_digits(text: str) -> bool:
    """Whether a text, which need not be in plain form, has digits or words for them."""
    return any(map(str.isdigit, text)) or has_number_words(text)


def is_secret_label(name: str) -> bool:
    """Whether what has this name is a secret, whatever it is: "wifi password", "cvv"."""
    return _LABEL.search(name) is not None


def kinds_in(plain: str) -> Iterator[re.Match[str]]:
    """Where kinds are named."""
    may_be_card = _has(plain, _CARD_STEMS)
    if may_be_card or _has(plain, _STEMS):
        yield from (kind for kind in _KIND.finditer(plain) if not _OF_ANOTHER_KIND.match(plain, kind.end()))
    if may_be_card:
        yield from CARD_NAME.finditer(plain)


def kind_of(group: str) -> str:
    """The kind of what a group names."""
    return _KIND_OF.get(group, "secret")


def asked(plain: str) -> str | None:
    """The group of kinds that a text ends in, or asks for: what follows may be the value itself."""
    sentence = _SENTENCE.search(plain)
    for found in kinds_in(plain):
        is_request = (
            sentence and found.start() >= sentence.start() and _REQUEST.search(plain, sentence.start(), found.start())
        )
        if _LAST_WORDS.fullmatch(plain, found.end()) or is_request:
            return found.lastgroup or "card"
    return None


def left_open(plain: str) -> str | None:
    """The group of kinds that a text names before it breaks off: "my card number is", "my PIN"."""
    for found in kinds_in(plain):
        before, rest = plain[: found.start()], plain[found.end() :]
        breaks_off = _COPULA.search(rest) and not _ASKED.search(before)
        if _fillers(rest) == rest and (breaks_off or _ARTICLE.fullmatch(before)):
            return found.lastgroup or "card"
    return None


def is_bare(plain: str) -> bool:
    """Whether a text is only a value, such as the answer to a question for one: "1234", "it's hunter2"."""
    if len(plain) > _LONGEST_ANSWER:
        return False
    value = _TAIL.sub("", _LEAD_IN.sub("", plain, count=1))
    return RUN.fullmatch(value) is not None or (_MIXED.fullmatch(value) is not None and " " not in value)


def answer(group: str, plain: str) -> Found | None:
    """The value with which a text begins that follows a question for one."""
    lead = _PRESSED.match(plain) or _LEAD_IN.match(plain)
    start = lead.end() if lead else 0
    kind = kind_of(group)
    if group in _LEAST_DIGITS:
        number = (_NUMBERED if group in {"national", "account"} else RUN).match(plain, start)
        is_enough = number and len(digits(number[0])) >= (1 if is_bare(plain) else 3)
        return Found(kind, *number.span(), re.sub(r"\W", "", number[0])) if number and is_enough else None
    value = _TAIL.sub("", plain[start:])
    is_word = value and " " not in value and HIDDEN not in value and value.casefold() not in _NO_ANSWER
    return Found(kind, start, start + len(value), value) if is_word else None


def named(plain: str) -> Iterator[Found]:
    """Values that are named by their kind."""
    for found in kinds_in(plain):
        group = found.lastgroup
        if group is None or (group == "card" and HARMLESS_CARD.search(plain, 0, found.end())):
            continue
        if value := _value_after(group, plain, found.end()) or _value_before(group, plain, found.start()):
            start, end = value
            told = plain[start:end]
            yield Found(kind_of(group), start, end, re.sub(r"\W", "", told) if group in _LEAST_DIGITS else told)


_Span = tuple[int, int]


def _value_after(group: str, plain: str, start: int) -> _Span | None:
    """The value in "my PIN is 1234", "PIN 1234" and "the PIN for my card is 1234"."""
    after = plain[start:]
    fillers = _fillers(after)
    if value := _read(group, plain, start + len(fillers), fillers):
        return value
    further = _FURTHER_ON.match(after)
    if further is None or _AND.search(further["words"]):
        return None
    at = start + further.end()
    return _read(group, plain, at + len(_fillers(plain[at:])), further[0])


def _fillers(text: str) -> str:
    match = _FILLERS.match(text)
    return match[0] if match else ""


def _read(group: str, plain: str, start: int, between: str) -> _Span | None:
    """Where the value that begins there ends, given its kind and the words between the two."""
    if group in _LEAST_DIGITS:
        match = (RUN if group in {"pin", "card"} else _NUMBERED).match(plain, start)
        return match.span() if match and len(digits(match[0])) >= _LEAST_DIGITS[group] else None
    token = _TOKEN.match(plain, start)
    if not token or HIDDEN in token[0]:
        return None
    word = token[0].strip(_AROUND)
    at = start + token[0].index(word)
    if _MIXED.fullmatch(word) and (group == "word" or len(word) >= _LEAST_OF_A_KEY):
        return at, at + len(word)
    is_stated = _COPULA.search(between) and (word.casefold() not in _NO_VALUE or re.search("[:=]", between))
    if group == "key" or not word or not is_stated or _HOW_MANY.match(plain, start):
        return None
    stated = re.split(rf"[.;,!?{HIDDEN}]|\s(?:y|and|but|und|et)\s", plain[start : start + _LONGEST_ANSWER], maxsplit=1)[
        0
    ]
    value = stated.strip("' ")
    if not value:
        return at, at + len(word)
    at = start + stated.index(value)
    return at, at + len(value)


def _value_before(group: str, plain: str, end: int) -> _Span | None:
    """The value in "1234 is my PIN" and "use swordfish as my password"."""
    begin = max(0, end - _NEAR)
    before = plain[begin:end]
    for run in RUN.finditer(before):
        is_enough = len(digits(run[0])) >= _LEAST_DIGITS.get(group, 4)
        if is_enough and _WHICH_IS.match(before, run.end()) and not is_harmless_number(before, run.start()):
            return begin + run.start(), begin + run.end()
    if group in {"word", "key"}:
        for token in _TOKEN.finditer(before):
            if _MIXED.fullmatch(token[0]) and HIDDEN not in token[0] and _WHICH_IS.match(before, token.end()):
                return begin + token.start(), begin + token.end()
        stated = _VALUE_FIRST.search(before) if group == "word" else None
        if stated and HIDDEN not in stated["value"] and stated["value"].casefold() not in _NO_SUBJECT:
            return begin + stated.start("value"), begin + stated.end("value")
    return None
