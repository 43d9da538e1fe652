"""The words that the grammar has to know: names, languages, states, people, things."""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


STOP_WORDS = word_set(
    """a an the this that these those some any of to in on at by for with from and or but so as is are was were be been
    am do does did have has had will would can could should may might must shall i you he she it we they me him her us
    them my your his its our their mine there here not no very really just also too quite pretty much more most than
    then about into over up down out off what which who whom whose when where why how please if whether because while
    every all own bit lot kind sort actually always usually often normally generally sometimes only going get got"""
)

FIRST_NAMES = word_set(
    """aaron abby abdul abigail adam adriana adrian agnes ahmed aisha alan albert alejandro alex alexander alexandra
    alexis alfred ali alice alicia alina alison amanda amber amelia amir amit amy ana anastasia andre andrea andreas
    andrew andy angela anil anita anja ann anna anne annie anthony antonio arjun arthur asha ashley astrid audrey barbara
    beatrice ben benjamin bernard beth betty bianca bill billy bob bobby brandon brenda brian bridget bruce bruno bryan
    camila camille carl carla carlos carmen carol caroline catherine cecilia charles charlie charlotte chen chloe chris
    christian christina christine christopher cindy claire clara claudia colin connor craig cristina cynthia daisy
    damian dan dana daniel daniela danny david deborah deepak dennis derek diana diego dmitri dominic don donald donna
    doris dorothy doug douglas duncan dylan eddie edgar edward elaine elena eli elias elijah elisabeth elise eliza
    elizabeth ella ellen elsa emil emilia emily emma emmanuel eric erica erik erin ernest esther ethan eugene eva evan
    eve evelyn fatima felipe felix fernando fiona florian frances francesca francis francisco frank fred frederick
    freya gabriel gabriela gareth gary gavin george georgia gerald gina giovanni gloria gordon graham greg gregory greta
    guillermo gustavo hannah hans harold harry hassan hector heather heidi helen helena henry hiroshi howard hugh hugo
    ian ibrahim ida ines ingrid irene iris isaac isabel isabella ivan jack jackie jacob jacqueline jade jake james jamie
    jan jane janet jason javier jay jean jeff jeffrey jennifer jenny jeremy jerry jesse jessica jill jim jimmy jin joan
    joanna joe joel johanna johannes john johnny jon jonathan jordan jorge jose joseph joshua juan judith judy jules
    julia julian julie julien juliet jun justin kai karen karin karl kate katherine kathleen kathy katie keith kelly
    ken kenneth kenji kevin kim kirsten klaus kristin kumar kurt kyle lars laura lauren laurence lawrence leah lee lena
    leo leon leonard leonardo leslie lewis li liam lily linda lisa liz logan lois lola louis louise luca lucas lucia
    lucy luis luka lukas luke luna lydia lynn madison maggie malik manuel marc marco marcus margaret maria marie marina
    mario marion mark markus marta martha martin martina mary mateo matt matteo matthew matthias maureen max maya megan
    mehmet mei melanie melissa mia michael michelle miguel mike milan mina ming miriam mohamed mohammed molly monica
    muhammad nadia nancy naomi natalia natalie natasha nathan neil nelson nick nicholas nico nicola nicole nina noah
    noel nora norman oleg olga oliver olivia omar oscar owen pablo pamela paolo patricia patrick paul paula pedro peggy
    penelope pete peter petra phil philip philippe phoebe pierre pietro priya quentin rachel rafael raj rajesh ralph
    ramon raphael raul ravi ray raymond rebecca ricardo richard rick rita rob robbie robert roberto robin rodrigo roger
    roland ron ronald rosa rosie ross roy ruben ruby rupert russell ruth ryan sabine sally sam samantha samir samuel
    sandra sanjay santiago sara sarah sasha scott sean sebastian serena sergei sergio shane shannon sharon sheila simon
    sofia sonia sonja sophia sophie stacy stan stanley stefan stella stephanie stephen steve steven stuart sue sunil
    susan suzanne svetlana sven sylvia tamara tanya tara ted teresa terry tess thelma theo theresa thomas tim timothy
    tina toby tobias todd tom tomas tommy tony tracy trevor tyler ursula valentina valerie vanessa vera veronica vicky
    victor victoria vijay vincent viola violet virginia vivian vladimir walter wanda wayne wei wendy wesley will
    william willow wolfgang xavier yasmin yolanda yuki yusuf yvonne zach zara zoe"""
)

TRANSIENT = word_set(
    """tired hungry thirsty fine good well great ok okay alright bad sick ill busy sorry sure unsure certain back here
    there ready done finished confused happy sad bored lost late early afraid scared worried angry mad upset annoyed
    frustrated disappointed excited glad curious interested serious kidding joking listening speaking talking calling
    wondering looking trying asking waiting having getting hoping thinking feeling doing using going coming leaving
    sleepy exhausted stressed sleeping drunk cold hot warm wet alone lonely home out outside inside away online offline
    stuck broke broken locked unable able aware new right wrong impressed satisfied dissatisfied pleased delighted
    surprised shocked amazed grateful thankful awake alive dead dying crying laughing lazy nervous anxious depressed
    jealous embarrassed overwhelmed hurt injured not still just so very really pretty quite too always never also only
    about at in on from with for to a an the your my our his her their its all over under near off up down afraid
    perfect awesome amazing terrific fantastic wonderful terrible horrible miserable nice lovely cool super chilling
    knackered starving freezing boiling shattered gutted fed freaking bummed hangry swamped running driving walking
    shopping returning ordering wanting needing expecting planning considering missing losing getting nobody somebody
    someone one it that this what who good-looking unhappy convinced positive negative dunno guessing saying telling
    gonna supposed allowed required eligible due based located interested moving traveling travelling learning studying
    being working living staying holding standing sitting set sold done through trying wanting hearing seeing free"""
)
"""What somebody may be for a while, or a word that begins something else: never a name, never worth remembering."""

DURABLE = word_set(
    """vegan vegetarian pescatarian diabetic celiac coeliac married single divorced widowed engaged pregnant retired
    unemployed employed self-employed freelance blind deaf colorblind colourblind left-handed right-handed lefthanded
    righthanded lefty dyslexic autistic epileptic asthmatic bilingual trilingual gay lesbian bisexual straight queer
    transgender nonbinary non-binary christian catholic muslim jewish hindu buddhist atheist agnostic kosher halal
    gluten-free tall short introverted extroverted vaccinated disabled hard-of-hearing sober teetotal keto paleo
    american canadian mexican brazilian argentinian colombian australian british english scottish irish welsh european
    african asian indian pakistani nigerian kenyan egyptian israeli iranian austrian swiss belgian"""
)

NAME_STOPS = word_set(
    """not no on in at of and or but is are was the a an my your what who how where when why which already still
    spelled spelt misspelled wrong correct important needed required unknown secret private none too so very it that
    this there here please by for from with to i you we they he she do does did can could would will should since
    because if then also yes yeah me him her us them back later tomorrow today now soon again something anything
    nothing everything like just really actually maybe probably being up down out taxi cab ambulance police doctor
    when tonight anytime urgent great good nice awesome about regarding concerning related changed different as"""
)
"""Words that are no name, and where a name in running speech has ended."""

LANGUAGES = {
    word: word.title()
    for word in word_set(
        """english german french spanish italian portuguese dutch russian polish ukrainian czech slovak hungarian
        romanian bulgarian greek turkish arabic hebrew persian farsi hindi urdu bengali punjabi tamil telugu marathi
        gujarati chinese mandarin cantonese japanese korean vietnamese thai indonesian malay tagalog filipino swahili
        swedish norwegian danish finnish icelandic estonian latvian lithuanian croatian serbian bosnian slovenian
        albanian macedonian catalan basque galician irish welsh gaelic afrikaans zulu yoruba hausa amharic somali
        armenian georgian kazakh nepali sinhala burmese khmer lao mongolian latin esperanto"""
    )
} | {
    "deutsch": "German",
    "espanol": "Spanish",
    "español": "Spanish",
    "francais": "French",
    "français": "French",
    "italiano": "Italian",
    "portugues": "Portuguese",
    "português": "Portuguese",
    "nederlands": "Dutch",
}

PEOPLE_AND_PETS = word_set(
    """wife husband spouse partner girlfriend boyfriend fiance fiancee fiancé fiancée mother mom mum mommy father dad
    daddy parents sister brother siblings son daughter child kid kids children baby twin twins aunt uncle cousin niece
    nephew grandmother grandma granny grandfather grandpa grandson granddaughter grandchildren friend roommate flatmate
    neighbor neighbour boss manager colleague coworker assistant doctor dentist therapist lawyer teacher landlord ex
    stepmother stepfather stepson stepdaughter mother-in-law father-in-law dog dogs cat cats puppy kitten hamster
    rabbit bunny horse pony parrot bird fish goldfish turtle tortoise snake lizard guinea-pig pet pets"""
)
THINGS = word_set(
    """car truck van bike bicycle motorcycle motorbike scooter boat house home apartment flat room garden office
    phone laptop computer tablet tv television"""
)
"""What many different things can be said of: each gets a label of its own instead of one for all."""

NO_FACT_HEADS = word_set(
    """question questions problem problems issue issues point order orders package parcel delivery shipment refund
    payment bill invoice guess bad fault mistake turn apologies apology goodness god pleasure idea thing request
    concern complaint query inquiry understanding impression reason item items purchase purchases return card account
    connection internet wifi screen password favor favour understanding opinion mind head advice bet word answer response luggage bag bags visa bank next light status application transaction transactions reservation booking appointment insurance pin limit subscription membership"""
)
"""What "my ... is ..." is said of without telling a fact worth keeping: the matter of the call, or a figure of speech."""

PASSING_STATES = word_set(
    """broken late down lost missing gone damaged ready wrong stuck delayed cracked dead empty full closed open locked
    blocked declined overdue defective faulty frozen slow ringing here there back away out off on not still hurting
    sick ill tired killing crying asleep arriving working sleeping waiting incomplete leaking"""
)

BUSINESS = word_set(
    """return returns returned returning refund refunds refunded exchange exchanges exchanged ship ships shipping shipped
    shipment deliver delivers delivery deliveries delivered pay paying payment payments paypal invoice invoices receipt
    warranty warranties guarantee guarantees cancel cancels cancellation cancelled cancelling account accounts password
    subscription subscriptions subscribe unsubscribe discount discounts coupon coupons voucher vouchers gift price
    prices pricing cost costs fee fees checkout store stores shop shops sign register registration login log support
    contact policy policies customs tax taxes size sizes sizing stock available availability app website order orders
    ordered ordering buy buying purchase purchases purchased item items product products package packages parcel
    install installation installment installments repair repairs replace replacement money credit debit cash loyalty
    points membership newsletter privacy data track tracking book booking bookings reserve reservation reservations
    charged charge billed bill billing
    check-in check-out checkin breakfast parking room rooms pool spa gym wifi pets promo code service customer customers
    company business broken damaged faulty defective hours opening open close closed closes holiday holidays"""
)
"""What callers ask a company about, even when they say "I" and "my"."""

ADVERBS = (
    r"(?:(?:really|truly|absolutely|just|totally|definitely|kind of|sort of|also|still|usually|always|often|mostly|generally|normally|typically|"
    r"actually|currently|now|only|mainly|especially|secretly|quite|very much|particularly|both|recently) )*"
)
"""A pattern for what may stand between "I" and the verb."""
AGE = (
    r"(?:about |almost |nearly |only |turning |over )?(?:\d{1,3}|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
    r"fourteen|fifteen|sixteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[ -]\w+)?)"
    r"(?: and a half)?(?:[ -](?:years?|months?|weeks?|yrs?)(?:[ -]old| of age)?)?"
)
"""A pattern for an age, or a small number."""
_BUSINESS_PHRASE = re.compile(
    r"\b(?:send(?:ing)? (?:\w+ ){0,4}?back|(?:get|give|bring) (?:\w+ ){0,4}?back|money back|check (?:in|out)|opening (?:times|hours)|work with)\b",
    re.IGNORECASE,
)


def is_business(text: str) -> bool:
    """Whether a text has a word or phrase that one asks a company about."""
    return (
        bool(BUSINESS & set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.casefold())))
        or _BUSINESS_PHRASE.search(text) is not None
    )
