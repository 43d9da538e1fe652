"""Detects what an assistant must not remember (passwords, PINs, card numbers and the like), and removes it from text.

Everything to be stored is checked here, whichever model asks, and so is what was stored earlier, before it is spoken,
put into a briefing or listed. It handles transcribed speech: digits in groups or as words, the kind before the value
or after it, in English and, by keyword, in some other languages. A kind without a value ("I forgot my PIN") is not a
secret, and neither are the numbers of other things.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from lkmongo.redact import CARD_NAME, NUMBER_WORDS, RUN, digits, is_harmless_number, secrets_by_shape, words_to_digits

REFUSAL = "I don't store passwords, PINs, card numbers and the like. Please keep those to yourself."
"""The answer to a caller who asks for one to be remembered."""
WITHHELD = "(withheld)"
"""Replaces a secret that was stored before it was refused."""

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
_NUMBER_KIND = _words(
    # one-time codes
    "(?:(?:one|1)[ -]time|verification|authentication|recovery|backup|2fa|two[ -]factor|sms)[ -](?:pass)?codes?",
    "otp", "tan",
    # social security and tax
    "ssn", "s[. ]s[. ]n", "(?:(?:my|her|his) )?social (?:security|insurance)", "(?:my|her|his) social",
    "national insurance", "bsn", "cpf", "dni", "itin", "tax(?:payer)? id", "aadhaar", "codice fiscale",
    "sécurité sociale", "seguridad social", r"(?:sozial|renten)versicherungs\w+", r"steuer-?id\w*",
    # bank accounts
    "(?:bank(?:ing)?|checking|savings|current|giro) account", "sort code", "routing (?:number|no)", "iban",
    "kontonummer", "rekeningnummer", "numéro de compte", "número (?:de cuenta|da conta)", "numero di conto",
    # identity papers
    "passport", "passeport", "pasaporte", "passaporto", "passaporte", "reisepass(?:nummer)?",
    "driv(?:er|ers|er's|ing) licen[sc]e", "führerschein(?:nummer)?", "permis de conduire",
    "(?:identity|id) card", "national id", "personalausweis(?:nummer)?", "carte d'identité",
)  # fmt: skip
_KIND = re.compile(rf"(?P<word>{_WORD_KIND})|(?P<key>{_KEY_KIND})|(?P<pin>{_PIN_KIND})|(?P<number>{_NUMBER_KIND})", _I)
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
_LEAST_DIGITS = {"pin": 3, "number": 4}
_LEAST_OF_A_KEY = 8
_HOW_MANY = re.compile(r"\d+ (?:characters?|letters?|digits?|signs?|times?|days?|weeks?|months?|years?)\b", _I)
_TOKEN = re.compile(r"[^\s\"]+")
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
    r"number|code|pin|password|i said|remember|es|c'est|ist)\b[\s,.:!]*)*",
    _I,
)
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

# ------------------------------------------------------------------ a fast check, as most text holds no secret

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
_FOREIGN = [
    "null eins zwei drei vier fünf sechs sieben acht neun".split(),
    "zéro un deux trois quatre cinq six sept huit neuf".split(),
    "cero uno dos tres cuatro cinco seis siete ocho nueve".split(),
    "zero uno due tre quattro cinque sei sette otto nove".split(),
    "zero um dois três quatro cinco seis sete oito nove".split(),
    "nul een twee drie vier vijf zes zeven acht negen".split(),
]
_FOREIGN_DIGITS = {word: str(value) for language in _FOREIGN for value, word in enumerate(language)}
# One language at a time: "um, six zero" is not a Portuguese one, a French six and an Italian zero.
_FOREIGN_RUN = re.compile(
    "|".join(
        rf"(?<!\w)(?:{words})(?:,? (?:{words})){{2,}}(?!\w)" for words in ("|".join(language) for language in _FOREIGN)
    ),
    _I,
)
_DIGIT_WORDS = NUMBER_WORDS | set(_FOREIGN_DIGITS)
_SENTENCE_END = re.compile(r"(?<=[.!?;。])(?<!\.[^\W\d_]\.)\s+|\n+")
_ODD = re.compile(r"[^\x20-\x7e]")


def _has(text: str, stems: Iterable[str]) -> bool:
    folded = text.casefold()
    return any(stem in folded for stem in stems)


def _has_number_words(text: str) -> bool:
    return sum(word.strip(".,") in _DIGIT_WORDS for word in text.casefold().replace("-", " ").split()) > 1


def _may_hold(text: str) -> bool:
    return any(map(str.isdigit, text)) or _has(text, _STEMS_OF_WORDS) or _has_number_words(text)


def _plain(text: str) -> str:
    """The text on one line, number words as digits, without invisible characters."""
    if _ODD.search(text):
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
        seen = (char for char in text if unicodedata.category(char) != "Cf")
        text = "".join(str(unicodedata.digit(char)) if char.isdigit() else char for char in seen)
    text = " ".join(text.split())
    if not _has_number_words(text):
        return text
    as_digits = _FOREIGN_RUN.sub(
        lambda run: "".join(_FOREIGN_DIGITS[word] for word in re.findall(r"\w+", run[0].casefold())), text
    )
    return words_to_digits(as_digits)


# ------------------------------------------------------------------ detection


def holds_secret(text: str) -> bool:
    """Whether a text contains something that must not be remembered."""
    return bool(secrets_in(text))


def is_secret(label: str, content: str) -> bool:
    """Whether a slot with this name and content must not be remembered; the name alone can decide that."""
    name = label.replace("_", " ")
    return _LABEL.search(name) is not None or holds_secret(content) or holds_secret(f"{name}: {content}")


def secrets_in(text: str) -> frozenset[str]:
    """The secrets in a text, numbers as their digits."""
    if not _may_hold(text):
        return frozenset()
    plain = _plain(text)
    return frozenset([*secrets_by_shape(plain), *_named(plain)])


def asks_for_secret(text: str) -> bool:
    """Whether a text ends in a kind of secret, or in a card: what follows may be the secret itself."""
    plain = _plain(text)
    return any(_LAST_WORDS.fullmatch(plain, kind.end()) for kind in [*_kinds(plain), *_cards(plain)])


def is_bare_value(text: str) -> bool:
    """Whether a text is only a value, such as the answer to a question for one: "1234", "it's hunter2"."""
    if len(text) > _LONGEST_ANSWER or not _may_hold(text):
        return False
    value = _TAIL.sub("", _LEAD_IN.sub("", _plain(text), count=1))
    run = RUN.fullmatch(value)
    return run is not None or (_MIXED.fullmatch(value) is not None and " " not in value)


def trails_off(text: str) -> bool:
    """Whether a text names a secret and breaks off before its value: "my card number is", "my PIN"."""
    plain = _plain(text)
    for kind in [*_kinds(plain), *_cards(plain)]:
        before, rest = plain[: kind.start()], plain[kind.end() :]
        breaks_off = _COPULA.search(rest) and not _ASKED.search(before)
        if _fillers(rest) == rest and (breaks_off or _ARTICLE.fullmatch(before)):
            return True
    return False


def numbers_in(text: str) -> frozenset[str]:
    """The numbers of three digits or more in a text, as digits."""
    return frozenset(number for run in RUN.findall(_plain(text)) if len(number := digits(run)) > 2)


def tells(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text contains one of these secrets, however its digits are grouped."""
    plain = _plain(text)
    words = _spaced(plain)
    return any(_grouped(secret).search(plain) if secret.isdigit() else _spaced(secret) in words for secret in secrets)


def _grouped(number: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\d){'[ .,/_-]{0,3}'.join(number)}(?!\d)")


def _spaced(text: str) -> str:
    words = " ".join(re.findall(r"[^_\W]+", text.casefold()))
    return f" {words} "


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text without the sentences that contain a secret or one of those `known`; may be empty."""
    secrets = {*known, *secrets_in(text)}
    if not secrets:
        return text
    sentences = _SENTENCE_END.split(text)
    kept = " ".join(each for each in sentences if not (holds_secret(each) or tells(each, secrets))).strip(" ;,")
    return "" if holds_secret(kept) or tells(kept, secrets) else kept


def _kinds(plain: str) -> Iterator[re.Match[str]]:
    if _has(plain, _STEMS):
        yield from (kind for kind in _KIND.finditer(plain) if not _OF_ANOTHER_KIND.match(plain, kind.end()))


def _cards(plain: str) -> Iterable[re.Match[str]]:
    return CARD_NAME.finditer(plain) if _has(plain, _CARD_STEMS) else ()


def _named(plain: str) -> Iterator[str]:
    """Values that are named by their kind."""
    for found in _kinds(plain):
        kind = found.lastgroup or ""
        before, after = plain[max(0, found.start() - _NEAR) : found.start()], plain[found.end() :]
        if value := _value_after(kind, after) or _value_before(kind, before):
            yield value


def _value_after(kind: str, after: str) -> str:
    """The value in "my PIN is 1234", "PIN 1234" and "the PIN for my card is 1234"."""
    fillers = _fillers(after)
    if value := _read(kind, after[len(fillers) :], fillers):
        return value
    further = _FURTHER_ON.match(after)
    if further is None or _AND.search(further["words"]):
        return ""
    rest = after[further.end() :]
    return _read(kind, rest[len(_fillers(rest)) :], further[0])


def _fillers(text: str) -> str:
    match = _FILLERS.match(text)
    return match[0] if match else ""


def _read(kind: str, text: str, between: str) -> str:
    """The value at the beginning of `text`, given its kind and the words between the two."""
    if kind in _LEAST_DIGITS:
        match = (RUN if kind == "pin" else _NUMBERED).match(text)
        number = re.sub(r"\W", "", match[0]) if match else ""
        return number if len(digits(number)) >= _LEAST_DIGITS[kind] else ""
    token = _TOKEN.match(text)
    word = token[0].strip(".,;:!?'()") if token else ""
    if _MIXED.fullmatch(word) and (kind == "word" or len(word) >= _LEAST_OF_A_KEY):
        return word
    is_stated = _COPULA.search(between) and (word.casefold() not in _NO_VALUE or re.search("[:=]", between))
    if kind == "key" or not word or not is_stated or _HOW_MANY.match(text):
        return ""
    value = re.split(r"[.;,!?]|\s(?:and|but|und|et|y)\s", text[:_LONGEST_ANSWER].strip("'"), maxsplit=1)[0].strip()
    return value or word


def _value_before(kind: str, before: str) -> str:
    """The value in "1234 is my PIN" and "use swordfish as my password"."""
    for run in RUN.finditer(before):
        number = digits(run[0])
        is_enough = len(number) >= _LEAST_DIGITS.get(kind, 4)
        if is_enough and _WHICH_IS.match(before, run.end()) and not is_harmless_number(before, run.start()):
            return number
    if kind in {"word", "key"}:
        for token in _TOKEN.finditer(before):
            if _MIXED.fullmatch(token[0]) and _WHICH_IS.match(before, token.end()):
                return token[0]
        if kind == "word" and (stated := _VALUE_FIRST.search(before)) and stated["value"].casefold() not in _NO_SUBJECT:
            return stated["value"]
    return ""
