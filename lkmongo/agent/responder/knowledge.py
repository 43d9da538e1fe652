"""Questions and topics that are not about the caller: what to search the knowledge base for."""

from __future__ import annotations

import re

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, Knowledge
from lkmongo.agent.responder.text import content_words, rx, words
from lkmongo.agent.responder.vocabulary import is_business

_ABOUT = rx(
    r"""
    (?:(?:tell|inform|teach|enlighten) (?:me|us)(?: something| more| everything| a bit| a little| all)?(?: about| on| regarding)?
    |(?:explain|describe|clarify|outline|summari[sz]e)(?: to me| me)?
    |(?:find|get|give|read|show|look|bring)(?: me| us| out| up| for)*(?: some| more| any| the| all| an?)*(?: (?:info|information|details|facts|answers?|help|something|anything|overview))?(?: about| on| regarding| of| for| with| out)?
    |(?:search|look)(?: up| for| in| through| the)*(?: the)?(?: knowledge base| knowledge| docs| faq)?(?: for| about| on)?
    |(?:help|assist)(?: me| us)?(?: out)?(?: with| on| about)?
    |(?:i|we) (?:need|want|would like|have|am looking for|am after|require|could use|am calling for|am searching for)(?: some| more| any| an?| the| to get| to have)*(?: ?(?:info|information|details|help|question|questions|advice|clarification|assistance|query|inquiry|problem|issue|trouble|problems|issues|concern))?(?: about| on| regarding| with| for| concerning| related to)?
    |(?:i|we) (?:am|are) (?:calling|writing|asking|here|interested|having (?:trouble|problems|issues|difficulty)|curious|looking)(?: you)?(?: about| regarding| because of| in| with| for| into| to know about)
    |(?:i|we) (?:want|need|would like|wish|am trying|have|am looking|am hoping|wanted|am planning|am thinking)(?: to| of| about)?(?= (?:return|send|cancel|exchange|change|buy|order|pay|book|contact|reset|replace|complain|upgrade|subscribe|unsubscribe|track|report|make|place|send|get|claim|redeem|speak|sign|log|open|close|delete|use|apply|register|know|understand|learn|find|hear|ask)\b)
    |(?:know|learn|hear|find out|understand|ask|check)(?: more| something)?(?: about| on)?
    |(?:what|how) about|about|regarding|concerning|information on|info on|question about|a question about|(?:(?:do )?you (?:have|got)|have you got|got)(?: any| some)? (?:info|information|details) (?:on|about)
    ) (?P<what>.+)
    """
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|am|has|have|had|does|did|do|will|would|can|could|keeps?|went|goes|makes?|said|says|came|comes|"
    r"looks?|seems?|feels?|got|gets|stopped|won|lost|ate|saw|think|thought|broke|crashed)\b",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"\b(?:not work\w*|broken|broke|crash\w*|error|declined|fail\w*|stuck|damaged|defective|faulty|wrong item|missing|cannot (?:log|sign|connect|pay|pair|find|reset|turn|get|open|access|hear|set)|"
    r"will not (?:turn|connect|charge|pair|start|work|play)|does not (?:work|turn|connect|charge|pair|start|fit|play|respond)|keeps? \w+ing|forgot my password|lost my (?:password|receipt|invoice)|locked out|stopped working|smashed|cracked|scratched|dented|torn|offline|disconnect\w*|charged (?:twice|double|me))\b",
    re.IGNORECASE,
)


def knowledge(clause: Clause) -> list[Intent] | None:  # noqa: PLR0911 - a list of forms, tried in order
    """Take a question, a request for information, a trouble or a bare topic as a query; a mere statement as none."""
    text = clause.text
    if not content_words(text) and not clause.asked:
        return None
    if match := _ABOUT.fullmatch(text):
        what = re.sub(r"^(?:about|on|the|an?|your) (?=\w)", "", match["what"]).strip()
        if content_words(what):
            wish = re.match(
                r"(?:i|we) (?:need|want|would like|have|wish)\b(?!.*\b(?:info|information|details|help|about)\b)",
                text,
                re.IGNORECASE,
            )
            return [Knowledge(what, topic=wish is not None and not clause.asked and not is_business(what))]
    if clause.asked:
        return [Knowledge(text)] if content_words(text) else None
    if _TROUBLE.search(text):
        return [Knowledge(text)]
    if re.match(r"(?:my|our) ", text, re.IGNORECASE):
        return [Knowledge(text, topic=True)]
    if (
        not _VERB.search(text)
        and len(words(text)) <= 8
        and not re.match(r"(?:i|we|you|he|she|they|it|my|our)\b", text, re.IGNORECASE)
    ):
        return [Knowledge(text, topic=not is_business(text))]
    if re.match(
        r"(?:return|cancel|exchange|refund|reset|pay|contact|change|track|ship|deliver|replace|repair|buy|install|set up|pair|connect)\b",
        text,
        re.IGNORECASE,
    ):
        return [Knowledge(text)]
    return None
