"""What callers tell of themselves with "I ...": where they live, what they like, have, do and are."""

from __future__ import annotations

import re
from collections.abc import Callable

from lkmongo.agent.responder.intents import Remember
from lkmongo.agent.responder.labels import one_of_many
from lkmongo.agent.responder.text import content_words, label_of, rx, words
from lkmongo.agent.responder.vocabulary import ADVERBS, AGE, DURABLE, LANGUAGES, word_set

_THIRD = {
    "have": "has", "do": "does", "go": "goes", "teach": "teaches", "study": "studies", "watch": "watches", "fly": "flies",
    "practice": "practices", "practise": "practises", "coach": "coaches", "wash": "washes", "fish": "fishes", "carry": "carries",
}  # fmt: skip
_HABITS = word_set(
    "drive play eat drink collect use read run teach study learn follow support wear smoke ride take cook bake fly travel "
    "commute volunteer sing write paint swim ski garden practice practise speak own watch keep sleep exercise meditate "
    "need jog hike cycle dance knit paint draw coach manage lead raise breed grow train fish surf climb bike wake walk code "
    "listen work go box row sail hunt camp blog stream vape fast pray tutor mentor foster rent celebrate"
)
_I = r"(?:i|we)"
_LIKES = rx(
    rf"{_I} {ADVERBS}(?:(?:like|love|enjoy|adore|fancy|dig)|am {ADVERBS}(?:into|fond of|keen on|crazy about|passionate about|obsessed with|(?:a )?(?:big |huge |massive |great )?(?:fan|lover) of)|have a (?:sweet tooth|thing|soft spot|passion|love) for) (?P<what>.+)"
)
_DISLIKES = rx(
    rf"{_I} {ADVERBS}(?:hate|dislike|detest|loathe|despise|cannot (?:stand|bear|abide|tolerate)|do not {ADVERBS}(?:like|enjoy|love|care for)|am not (?:a )?(?:big |huge )?(?:fan of|into|fond of|keen on)) (?P<what>.+)"
)
_PREFERS = rx(rf"{_I} (?:would )?{ADVERBS}(?:prefer|favor|favour|rather have|would rather have|rather) (?P<what>.+)")
_ALLERGY = rx(
    rf"{_I} (?:am|have been|have) {ADVERBS}(?:(?:severely |very |highly |deathly |mildly |badly |slightly )*(?:allergic|intolerant) to|(?:an? |got an? )?(?:\w+ )?(?:allergy|intolerance) to|allergies to) (?P<what>.+)"
)
_ALLERGY_HAS = rx(
    rf"{_I} (?:am|have(?: got)?) (?:an? )?(?:severe |bad |mild )?(?P<what>[\w -]+?) (?:allergy|allergies|allergic|intolerant|intolerance)"
)
_LIVES = rx(
    rf"{_I} (?:{ADVERBS}(?:live|reside|am living|am based|am located|am residing|(?:have )?(?:just )?moved|(?:have )?relocated|am moving|dwell)|have (?:lived|been living|moved)) {ADVERBS}(?P<how>in|to|at|with|near|on|by|alone|outside|next to|close to|abroad)(?: (?P<what>.+))?"
)
_SUFFERS = rx(
    rf"{_I} (?:{ADVERBS}(?P<suffer>suffer|am suffering) from|am {ADVERBS}(?:(?:very|really|so|a bit|terribly) )*(?:afraid|scared|terrified|frightened) of) (?P<what>(?!you\b|this\b|that\b|it\b).+)"
)
_MOVED = rx(rf"{_I} (?:have )?{ADVERBS}(?:moved|relocated|am moving) from .+? to (?P<what>.+)")
_SLOTS = tuple(
    (label, rx(pattern))
    for label, pattern in (
        ("job", rf"{_I} (?:{ADVERBS}work|am working|am employed|make a living|earn my living) as (?:an? )?(?P<what>.+)"),
        ("job", rf"{_I} am (?:an? )?(?P<what>.+?) (?:by|as a) (?:profession|trade|training|occupation|living|job)"),
        ("works_at", rf"{_I} (?:{ADVERBS}work|am working|am employed|have worked) (?:at|for|with|by) (?P<what>.+)"),
        ("works_in", rf"{_I} (?:{ADVERBS}work|am working|am) in (?P<what>(?:the )?[\w ]*?(?:industry|finance|sales|marketing|it|tech|healthcare|education|hr|business|sector|field|retail|construction|logistics))"),
        ("works_in", rf"{_I} (?:{ADVERBS}work|am working) in (?P<what>.+)"),
        ("comes_from", rf"{_I} (?:{ADVERBS}come|am {ADVERBS}(?:originally )?|(?:originally )?come|hail|am originally) ?from (?P<what>.+)"),
        ("birth_year", rf"{_I} was born in (?P<what>(?:the year )?\d{{4}})"),
        ("birthday", rf"{_I} was born (?:on )?(?P<what>(?:on |in )?(?:the )?(?:\d|january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec).*)"),
        ("born_in", rf"{_I} was born (?:and raised )?(?:in|at|near) (?P<what>.+)"),
        ("grew_up_in", rf"{_I} (?:grew up|was raised) (?:in|on|at|near) (?P<what>.+)"),
        ("studied_at", rf"{_I} (?:graduated from|went to (?:school|college|university|uni) (?:at|in)|studied at|attended|have a degree from) (?P<what>.+)"),
        ("degree", rf"{_I} have (?:an? )?(?P<what>(?:degree|master|bachelor|phd|doctorate|diploma|mba)\b.*)"),
        ("married_to", rf"{_I} am (?:happily |)married to (?P<what>.+)"),
        ("engaged_to", rf"{_I} am engaged to (?P<what>.+)"),
        ("height", rf"{_I} am (?P<what>[\w' .]+?(?:cm|centimeters?|centimetres?|feet|foot|meters?|metres?|inches)[\w' .]*?)(?: tall)?"),
        ("weight", rf"{_I} weigh (?P<what>.+)"),
        ("wakes_up", rf"{_I} {ADVERBS}(?:wake up|get up|rise) (?P<what>(?:at|around|before|by|early|late|every)\b.*)"),
        ("goes_to_bed", rf"{_I} {ADVERBS}(?:go to (?:bed|sleep)) (?P<what>.+)"),
    )
)  # fmt: skip
_AGED = rx(rf"{_I} (?:am|have just turned|just turned|turned|will be|turn) (?P<what>{AGE})")
_HAS = rx(rf"{_I} (?:{ADVERBS}(?:have got|have|own)|(?:just|recently|finally) got(?= an?\b)) (?P<what>(?!been\b).+)")
_HAS_NO = rx(rf"{_I} (?:do not (?:have|own)(?: an?| any)?|have no) (?P<what>.+)")
_NOT_HAD = rx(
    r"(?:an? |any |the |some |another |one )?(?:\w+ )?(?:questions?|problems?|issues?|trouble|idea|ideas|clue|minute|second|moment|time|request|complaint|concern|enquiry|inquiry|"
    r"doubts?|feeling|look|chance|choice|right|headache|cold|hard time|difficult\w*|orders?|numbers?|it|that|them|this|one|doubt|point|say|favor|favour|fun|internet|money|order number|bad day|good day)\b.*"
    r"|(?:much |no |the |an? |any )?(?:gratitude|knowledge|answers?|opinion|faith|hope|respect|preference|need|patience|energy|activity|reservation)\b.*|(?:\w{3,}ed|gone|had|made|done|seen|left|spent|taken|kept|let|in|on|at|for|from|some|still|through|is|enough|how|what|many|much|two weeks|run|put|set|paid|sent|cut)\b.*"
    r"|(?:to|not|been|never|just|already|had|got to|tried|heard|seen|forgotten|lost|received|ordered|bought|waited|asked|used|no idea|nothing|told|said|a lot of questions|enough|you)\b.*"
)
_HABIT = rx(rf"{_I} (?P<how>{ADVERBS})(?P<verb>{'|'.join(sorted(_HABITS, key=len, reverse=True))}) (?P<what>.+)")
_HABIT_ALONE = rx(
    rf"{_I} {ADVERBS}(?P<verb>smoke|vape|meditate|jog|hike|ski|surf|sing|paint|knit|garden|cycle|swim|dance|cook|bake|climb|code|volunteer|commute)(?: (?P<what>regularly|every day|daily|a lot|professionally))?"
)
_USUALLY = rx(
    rf"{_I} (?P<how>usually|always|often|never|sometimes|normally|typically|generally|mostly|rarely|seldom) (?P<verb>[a-z]+)(?: (?P<what>.+))?"
)
_NEVER = rx(
    rf"{_I} (?P<not>do not|cannot|no longer|never|stopped|quit|gave up|have stopped|have quit) {ADVERBS}(?P<verb>eat|eating|drink|drinking|drive|driving|speak|swim|smoke|smoking|cook|wear|use|take|fly|flying|watch|play|own|work|celebrate|consume|read|ride|walk|hear|see|digest|sleep|like|love|digest|run|dance|sing|ski)(?: (?P<what>.+))?"
)
_NOT_ANY_MORE = re.compile(r"\s*\b(?:any ?more|any longer)$", re.IGNORECASE)
_DOING = rx(
    rf"{_I} am {ADVERBS}(?P<verb>learning|studying|training for|training|planning|expecting|writing|saving up for|saving for|saving|building|teaching|recovering from|taking care of|volunteering|raising|dating|seeing|getting married|getting divorced|having surgery|having a baby|flying|travelling|traveling|visiting|hosting|moving|running for)\b ?(?P<what>.*)"
)
_BECAME = rx(
    rf"{_I} (?:have )?(?:just |recently |finally )?(?P<verb>got married|got engaged|got divorced|adopted|retired|graduated|became|joined|started working|broke|had a baby|had surgery|visited|won|ran|climbed|founded|started a)\b ?(?P<what>.*)"
)
_AM_A = rx(rf"{_I} (?:am|have been) {ADVERBS}(?P<not>not )?(?:an?|the) (?P<what>.+)")
_AM = rx(rf"{_I} (?:am|have been) {ADVERBS}(?P<what>[\w' -]+)")
_NO_PERSON = rx(
    r"(?:bit|little|lot|tad|touch|mess|wreck|moron|genius|idiot|fool|robot|human|human being|person|people|customer|stranger|new customer|long ?time customer|bot|problem|big deal|few|kind of|sort of|man|woman|real person)\b.*"
)
_LIKED_NOW = re.compile(
    r"(?:to (?:know|ask|order|return|buy|cancel|speak|talk|check|see|get|change|add|update)|you|your|the (?:idea|sound|way)|how|what|when|if)\b",
    re.IGNORECASE,
)
_NEEDS_OBJECT = word_set("work see use like hear take run")
_NO_REASON = re.compile(r"(?:to|if|why|how|any (?:reason|problem)|the point|it|that|this)\b", re.IGNORECASE)
_NO_HABIT = word_set("wanted thought got received ordered said knew have am know understand get")
_OF_THE_CALL = re.compile(
    r"\b(?:order|package|refund|delivery|about|error|message|return|to return|to cancel|to buy|card)\b", re.IGNORECASE
)
_STANDING_NEED = re.compile(
    r"\b(?:insulin|medication|glasses|wheelchair|hearing|step-free|vegetarian|quiet|ground floor|accessible)\b",
    re.IGNORECASE,
)
_GOES_SOMEWHERE = word_set("commute listen walk go travel fly")
_NOT_A_THING = re.compile(
    r"(?:into|it|that|this|to|if|your|you|the (?:app|website|site|form)|an? (?:error|message|code|coupon|voucher|refund)|out|back|through|over|"
    r"\w+ing (?:an? )?(?:error|message|email))\b",
    re.IGNORECASE,
)
_PHRASAL = word_set("go work wake take keep write lead")
_PHRASAL_REST = re.compile(
    r"(?:to (?:check|the (?:site|store|website|checkout))|ahead|on|off|down|up to|with that)\b", re.IGNORECASE
)
_COMPOUND = re.compile(r"\b(?:intolerant|impaired|free|handed|sighted|sensitive|aged|legged)$", re.IGNORECASE)
_PLACE = re.compile(r"^(?:in|to|at|from|on|by|near) ", re.IGNORECASE)


_Found = list[Remember] | None
"""None: not this form. Empty: this form, but nothing to remember. Else the fact."""


def _third(verb: str) -> str:
    verb = verb.casefold()
    return _THIRD.get(verb, verb if verb.endswith("s") and not verb.endswith("ss") else verb + "s")


def _listed(found: Remember | None) -> _Found:
    return [found] if found else []


def _allergic(text: str, _explicit: bool) -> _Found:
    match = _ALLERGY.fullmatch(text) or _ALLERGY_HAS.fullmatch(text)
    return _listed(one_of_many("allergy", match["what"])) if match else None


def _dwells(text: str, _explicit: bool) -> _Found:
    if match := _MOVED.fullmatch(text):
        return [Remember("lives_in", match["what"])]
    match = _LIVES.fullmatch(text)
    if not match or not (match["what"] or match["how"].casefold() in {"alone", "abroad"}):
        return None
    how = match["how"].casefold()
    return [Remember("lives_in" if how in {"in", "to"} else f"lives_{how.replace(' ', '_')}", match["what"] or how)]


def _single(text: str, _explicit: bool) -> _Found:
    """Of these there is one at a time."""
    if match := _AGED.fullmatch(text):
        return [Remember("age", match["what"])]
    for label, pattern in _SLOTS:
        if match := pattern.fullmatch(text):
            return [Remember(label, _PLACE.sub("", match["what"]) if label == "birthday" else match["what"])]
    return None


def _tastes(text: str, explicit: bool) -> _Found:
    if match := _SUFFERS.fullmatch(text):
        return _listed(one_of_many("suffers from" if match["suffer"] else "is afraid of", match["what"]))
    if match := _DISLIKES.fullmatch(text):
        return _listed(one_of_many("dislikes", _NOT_ANY_MORE.sub("", match["what"])))
    if match := _LIKES.fullmatch(text):
        return [] if _LIKED_NOW.match(match["what"]) and not explicit else _listed(one_of_many("likes", match["what"]))
    match = _PREFERS.fullmatch(text)
    return _listed(one_of_many("prefers", match["what"])) if match else None


def _possessions(text: str, explicit: bool) -> _Found:
    without, match = _HAS_NO.fullmatch(text), _HAS.fullmatch(text)
    if not (without or match):
        return None
    what = (without or match)["what"]  # type: ignore[index]
    if _NOT_HAD.fullmatch(what) and not explicit:
        return []
    if without:
        return _listed(one_of_many("has no", what, f"no {what}"))
    uncounted = " ".join(word for word in content_words(what) if not re.fullmatch(AGE, word, re.IGNORECASE))
    return _listed(one_of_many("has", uncounted or what, what))


def _abstains(text: str, explicit: bool) -> _Found:
    if not (match := _NEVER.fullmatch(text)):
        return None
    verb, what, said = match["verb"].casefold(), match["what"] or "", match["not"].casefold()
    if not explicit and ((not what and verb in _NEEDS_OBJECT) or _NO_REASON.match(what)):
        return []
    how = "does not" if said == "do not" else said.removeprefix("have ")
    phrase = " ".join(filter(None, (how, _third(verb) if how == "never" else verb, what)))
    return [Remember(label_of(f"{verb} {what}", 4, prefix=how), phrase)]


def _usually(text: str, explicit: bool) -> _Found:
    if match := _HABIT_ALONE.fullmatch(text):
        return [Remember(_third(match["verb"]), text.split(" ", 1)[1])]
    if not (match := _USUALLY.fullmatch(text)):
        return None
    if match["verb"].casefold() in _NO_HABIT and not explicit:
        return []
    label = label_of(f"{match['verb']} {match['what'] or ''}", 4, prefix=match["how"].casefold())
    return [Remember(label, text.split(" ", 1)[1])]


def _doings(text: str, explicit: bool) -> _Found:
    match = _DOING.fullmatch(text) or _BECAME.fullmatch(text)
    if not match:
        return None
    if not explicit and _OF_THE_CALL.search(match["what"]):
        return []
    verb = match["verb"].casefold()
    label = label_of(match["what"], 3, prefix=verb) if match["what"] else verb.replace(" ", "_")
    return [Remember(label, f"{match['verb']} {match['what']}".strip())]


def _habits(text: str, explicit: bool) -> _Found:
    if not (match := _HABIT.fullmatch(text)):
        return None
    verb, what = match["verb"].casefold(), match["what"]
    if not explicit and (
        (verb == "need" and not _STANDING_NEED.search(what))
        or (verb not in _GOES_SOMEWHERE and _NOT_A_THING.match(what))
        or (verb in _PHRASAL and _PHRASAL_REST.match(what))
    ):
        return []
    return [one_of_many(_third(verb), what) or Remember(label_of(f"{_third(verb)} {what}", 4), what)]


def _being(text: str, explicit: bool) -> _Found:
    if match := _AM_A.fullmatch(text):
        if not explicit and (_NO_PERSON.fullmatch(match["what"]) or len(content_words(match["what"])) > 6):
            return []
        negated = "not " if match["not"] else ""
        article_on = text.split(" ", 3 if negated else 2)[-1]
        return _listed(one_of_many(f"is {negated}".strip(), match["what"], negated + article_on))
    if not (match := _AM.fullmatch(text)) or not (said := words(match["what"])):
        return None
    known = {said[0], "-".join(said[:2]), "-".join(said[:3]), "".join(said[:2])} & (DURABLE | LANGUAGES.keys())
    if not (known or _COMPOUND.search(match["what"])):
        return None
    return _listed(one_of_many("is", match["what"]))


_FORMS: tuple[Callable[[str, bool], _Found], ...] = (
    _allergic, _dwells, _single, _tastes, _possessions, _abstains, _usually, _doings, _habits, _being
)  # fmt: skip


def of_oneself(text: str, *, explicit: bool) -> Remember | None:
    """Understand a statement that begins with "I" or "we".

    Args:
        text: one clause.
        explicit: whether remembering it was asked for; else what is only of the moment is no fact.
    """
    text = re.sub(r"^we are\b", "we am", text, flags=re.IGNORECASE)
    for form in _FORMS:
        if (found := form(text, explicit)) is not None:
            return found[0] if found else None
    return None
