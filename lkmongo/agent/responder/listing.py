"""Questions for everything that is known, and for the call before."""

from __future__ import annotations

from lkmongo.agent.responder.clauses import Clause
from lkmongo.agent.responder.intents import Intent, ListAll, Talk
from lkmongo.agent.responder.text import rx

_KNOW = r"(?:know|remember|have|got|recall|store|stored|saved|save|keep|kept|learned|learnt|remembered|noted|memori[sz]ed|recorded|retain|written down|hold)"
_ON_ME = r"(?: (?:about|on|of|for|from|regarding) (?:me|us|myself|my ?self|my life|my person|my preferences))"
_WHEN = r"(?: (?:so far|until now|right now|already|yet|today|on file|stored|saved|noted|down|in (?:your|my|the) (?:memory|profile|file|notes|database|records)|from before|from last time|at all|at the moment|to date))"
_LIST = rx(
    rf"""
    (?:what|which)(?: \w+){{0,5}} (?:do|did|have|are|can) you(?: \w+){{0,2}} {_KNOW}(?: {_KNOW})?{_ON_ME}{_WHEN}*
    |what (?:all |else |exactly |information |data |things |facts |details |stuff |memories |kind of (?:things|information|data) |sort of things )*(?:do|did|have|can|are) you (?:already |currently |actually |still |really |all )*{_KNOW}(?: {_KNOW})?{_ON_ME}?{_WHEN}*
    |(?:go |run |walk me )through (?:everything|all|what) you (?:know|remember|have)(?: stored| saved)*{_ON_ME}?|what is (?:on file|stored|saved)(?: for me| about me| on me)?
    |(?:list |show |read |repeat |recite |recap |summari[sz]e |display )?(?:tell me |show me |give me |read me |read out |read back |to me )?(?:an? (?:list|summary|recap|rundown|overview|breakdown|quick summary) of |back )?(?:me )?(?:what|everything|all|anything|all (?:of )?the (?:things|facts|memories|stuff|information)|the things|the facts|things|some things|a few things|something)(?: all| else| exactly)?(?: that)? (?:you|i)(?: have| have ever| might| do| already| still| currently)*(?: {_KNOW}| told you| asked you to remember| told| shared| taught you)+{_ON_ME}?{_WHEN}*
    |(?:list|show|read|tell|give|recite|display|what are|what is in|what is on|read back|repeat|dump|check|see|print|open|summari[sz]e|go through)(?: me)?(?: out)?(?: all)?(?: of)? (?:my|the|your) (?:saved |stored |personal |own |user )?(?:memories|memory|stored facts|facts|data|details|info|information|notes|profile|file|memory slots|slots|preferences)(?: {_KNOW}| you)*{_ON_ME}?(?: with me| back to me| to me)?{_WHEN}*
    |(?:what|which) (?:memories|facts|information|details|data|things|notes) (?:do you (?:have|know|remember|keep|store|hold)(?: about| on| of) me|have you (?:saved|stored)|of mine|about me|did i (?:tell|share|give)|have i (?:told|shared|given)|are (?:stored|saved))\b.*
    |(?:tell me |say (?:something|anything) |anything |something |everything |all |describe |talk )(?:you know )?(?:about (?:me|myself)|me)|describe me
    |(?:do|did|have) you (?:still |really |already )?(?:know|remember|have|got|stored?|saved?|learned|recall) (?:anything|something|everything|any (?:information|data|facts|memories|details|notes))(?: about me| on me| of me| stored| saved| about us| i (?:said|told you))*{_WHEN}*
    |(?:what|which things|which facts) (?:have|did) i (?:already |ever |previously |all )?(?:told|tell|tell you|told you|shared|share|asked you to remember|asked you to keep|ask you to remember|said|say|taught you)(?: to)?(?: you| with you)?(?: to remember)?{_ON_ME}?(?: so far| before| until now| last time| earlier| already)*
    |my (?:memories|profile|notes|saved facts)|(?:any |)memories(?: about me)?|what is (?:on|in) my (?:profile|file|memory|record)|what is stored(?: about me)?|who am i to you|what am i like|how well do you know me
    |is there (?:anything|something) you (?:know|remember) about me|(?:how many|do i have any|do you have any) (?:memories|things|facts)\b.*
    """
)
_LAST_CALL = rx(
    r"""
    (?:what|which topics?) (?:did|have|were|was) (?:we|i) (?:last )?(?:talk|talked|discuss|discussed|speak|spoken|chat|chatted|talking|say|said|ask|asked|ask you|call)(?: about| for| you about)*(?: in| on| during)? ?(?:the |our |my )?(?:last|previous|earlier|yesterday|before|past)(?: (?:time|call|conversation|session|chat|week))?.*
    |when (?:did|have) (?:we|i) (?:last|previously) (?:talk|talked|speak|spoke|spoken|call|called|chat|contact you)\b.*|when (?:did|have) (?:we|i) (?:talk|speak|chat|call)(?: to you| with you)? last\b.*
    |(?:when|what) (?:was|is) (?:my|our|the) (?:last|previous|latest) (?:call|conversation|chat|session|talk)\b.*
    |(?:do|did|can) you (?:still )?(?:remember|recall|know)(?: about)? (?:our|my|the) (?:last|previous|earlier) (?:call|conversation|chat|session|talk|time|discussion)\b.*
    |(?:do you )?(?:remember|know|recall)? ?(?:what we (?:talked|spoke|chatted|discussed)|what we were talking)(?: about)?(?: last.*| before| yesterday| earlier)?
    |where (?:did we leave|were we|did we stop)(?: off)?(?: last time)?|(?:our|my) (?:last|previous) (?:call|conversation|chat|session)
    |have (?:we|i) (?:talked|spoken|met|called|chatted)(?: to you| with you)?(?: before| already| earlier)?|what (?:happened|was it) last time|what (?:was|is) (?:the last|my last|our last) (?:call|conversation|chat)(?: about)?
    """
)


_NOT_ALL = rx(
    r"what (?:do|did|can|have) you (?:have|got|keep|store)|what (?:do|did|have) i (?:say|said)|.*\bwhat (?:you|i) have"
)


def listing(clause: Clause) -> list[Intent] | None:
    """Recognise them."""
    if _LAST_CALL.fullmatch(clause.text):
        return [Talk("last_call")]
    if _LIST.fullmatch(clause.text) and not _NOT_ALL.fullmatch(clause.text):
        return [ListAll()]
    return None
