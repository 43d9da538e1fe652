"""One caller with very many memories, and the first questions of their calls: invented, the same for the same seed.

Each target is a fact with three questions for it: by the words of its label, by words of its content, and by meaning
alone, with none of either. The rest are facts about other people, things and years of the same life, which share words
with the targets and with each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from lkmongo.model import Fact, slot_name

Kind = Literal["label", "content", "meaning"]
KINDS: tuple[Kind, ...] = ("label", "content", "meaning")
_NEWEST = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """A first question, the label of the slot that answers it, and by what it can be found."""

    text: str
    label: str
    kind: Kind


# label | content | question by the label | question by the content | question by meaning
_TARGETS = """
favorite_tea | Darjeeling, second flush, without milk | What's my favorite kind of tea again? | Did I say anything about Darjeeling? | What hot drink should I have this morning?
allergy_medicine | takes cetirizine every evening in spring | Which medicine do I have for my allergy? | When am I supposed to swallow the cetirizine? | What pill do I use against hay fever?
dog_name | a beagle called Bruno | Do you know the name of my dog? | How old is Bruno by now? | Who do I walk in the park every day?
car_model | drives a red Volvo V60 | What model is my car? | The Volvo makes a strange noise. | Which vehicle did I want serviced?
home_alarm_company | the alarm is looked after by Securitron in Porto | Which company did the alarm at home? | Can you give me Securitron's details? | Who protects my house against burglars?
daughter_school | Emma goes to Lindenhof primary | Which school is my daughter at? | When does Lindenhof close for the holidays? | Where does my kid have lessons?
shoe_size | European 43, wide fit | What shoe size do I have? | Is 43 wide fit in stock? | I want to buy new boots, which ones are right for my feet?
dentist | Doctor Okafor on Mill Lane | Who is my dentist? | Is Okafor still practising? | My tooth hurts, who should I see?
wedding_anniversary | married to Paul on the sixth of June | When is our wedding anniversary? | What happens on the sixth of June? | On which day should I buy my husband flowers?
coffee_machine | a Jura E8 that needs descaling every month | Which coffee machine do I own? | How often does the Jura need descaling? | My espresso maker shows an error light.
parking_spot | number 17 in the underground garage | Which parking spot is mine? | What is in the underground garage? | Where did I leave the car?
internet_provider | fibre from Vodana, 500 megabit | Who is my internet provider? | Is Vodana down at the moment? | The wifi does not work at all.
favorite_restaurant | the Golden Wok by the river | What is my favorite restaurant? | Book a table at the Golden Wok please. | Where do I like to go out for dinner?
gym_membership | trains at Ironworks three times a week | What gym membership do I have? | Is Ironworks open on Sunday? | Where do I go to work out?
passport_renewal | has to be renewed before the trip to Peru | When does my passport renewal matter? | What do I need to do before Peru? | Are my travel documents still valid?
sister_job | Clara works as a nurse at Saint Anne's | What job does my sister have? | Does Clara still work at Saint Anne's? | What does my sibling do for a living?
mattress_firmness | prefers a soft mattress because of the back pain | What firmness of mattress did I want? | Does something soft help with back pain? | Which bed would let me sleep well?
printer_ink | uses the black cartridge 302 XL | What ink does my printer use? | Do you sell the 302 XL cartridge? | I cannot print my papers, what do I have to buy?
lawn_mower | a battery mower from Greenline, bought in May | What kind of lawn mower do I have? | Is the Greenline battery under warranty? | How do I cut the grass in my garden?
son_instrument | Leo plays the cello | Which instrument does my son play? | Does Leo have cello practice today? | What kind of music lessons does my boy take?
reading_glasses | strength plus 1.5, tortoiseshell frame | What reading glasses do I wear? | Is the tortoiseshell frame still made? | I can't see small letters, what did I buy before?
travel_insurance | covered by Globesafe until March | Which travel insurance do I have? | Does Globesafe pay for that until March? | Who pays if I fall ill abroad?
garden_plants | grows tomatoes and basil on the balcony | What plants are in my garden? | Do tomatoes and basil go together? | Which vegetables do I cultivate?
bike_lock | a folding lock from Abus, key under the mat | What lock is on my bike? | Where is the key for the Abus? | How do I keep my bicycle from being stolen?
blood_pressure | slightly high, measures it every Monday | How is my blood pressure? | What do I measure every Monday? | Is my heart healthy?
vegetarian_since | eats no meat since the university years | Since when am I vegetarian? | Did I have meat at the university? | What food should you not serve me?
mother_birthday | Ingrid turns seventy in February | When is my mother's birthday? | How old does Ingrid get in February? | When do I have to congratulate mum?
sofa_color | dark green velvet, three seats | What color is my sofa? | Does velvet in dark green fade? | Which couch is in my living room?
favorite_band | the Midnight Foxes from Leeds | Which band is my favorite? | Do the Midnight Foxes tour this year? | What music do I love to listen to?
cat_food | only salmon, chicken makes Minka sick | What food does my cat get? | Can Minka have the salmon one? | What should I feed the kitten?
boiler_service | serviced by Hartmann each September | Who does the boiler service? | Did Hartmann call about September? | The heating is cold, who repairs it?
phone_contract | twenty gigabytes with Telora, ends in August | What phone contract do I have? | Can I leave Telora in August? | When can I switch my mobile plan?
knee_injury | tore the meniscus while skiing in 2019 | What about my knee injury? | What happened with the meniscus in 2019? | Why does my leg hurt when it is cold?
morning_routine | goes for a run at six, then breakfast | What is my morning routine? | Do I have breakfast before the run? | How do I usually start the day?
best_friend | Amira, met in the choir | Who is my best friend? | Where did I meet Amira, in the choir? | Which buddy did I want to invite?
office_floor | fourth floor of the Meridian building | On which floor is my office? | Where is the Meridian building? | Where do visitors find my workplace?
washing_machine | a Bosch front loader that leaks | What washing machine do I have? | Why does the Bosch leak? | There is water on the floor after doing laundry.
charity | gives monthly to the lifeboat crew | Which charity do I support? | How much goes to the lifeboat crew? | Where do I donate money?
language_class | learns Portuguese on Tuesdays | Which language class do I take? | Is there Portuguese on Tuesdays? | What course do I attend in the evening?
window_size | 120 by 140 centimetres in the kitchen | What size are my windows? | Is 120 by 140 a standard in centimetres? | I need new curtains, how wide is the glass?
"""  # noqa: E501

_WHO = (
    "mother father sister brother daughter son wife husband aunt uncle cousin nephew niece grandmother grandfather "
    "neighbour landlord boss colleague accountant plumber lawyer doctor hairdresser trainer godchild flatmate tenant"
).split()
_OF_WHO = (
    ("favorite_color", ("teal", "burgundy", "mustard yellow", "navy blue", "sage")),
    ("hometown", ("Leeds", "Gothenburg", "Ghent", "Turin", "Valencia", "Halifax")),
    ("allergy", ("allergic to walnuts", "cannot have shellfish", "sneezes near cats", "reacts to latex")),
    ("favorite_dish", ("mushroom risotto", "lamb curry", "onion soup", "fish tacos", "plum cake")),
    ("hobby", ("restores old radios", "plays chess", "climbs", "paints watercolours", "keeps bees", "sings")),
    ("car", ("an old Saab", "a white Fiat", "a grey Skoda", "no car at all", "an electric Renault")),
    ("job", ("teaches chemistry", "sells insurance", "drives a tram", "edits films", "runs a bakery")),
    ("gift_idea", ("a fountain pen", "concert tickets", "a wool scarf", "a cooking class", "a globe")),
    ("coffee_order", ("flat white with oat milk", "double espresso", "decaf with sugar", "cold brew")),
    ("shirt_size", ("medium", "large, long sleeves", "small", "extra large")),
    ("pet", ("two budgies", "a tortoise", "a grey cat", "a greyhound", "goldfish in a pond")),
    ("birthday", ("the third of March", "late in July", "on New Year's Eve", "the ninth of April")),
)
_THINGS = (
    "dishwasher fridge oven vacuum_cleaner kettle toaster television radio laptop tablet camera drill sewing_machine "
    "bookshelf wardrobe desk armchair carpet curtains bathtub shower balcony_awning doorbell thermostat smoke_alarm "
    "tent canoe violin piano telescope rucksack suitcase umbrella raincoat wristwatch fountain_pen"
).split()
_OF_THING = (
    ("brand", ("from Nordby", "made by Castell", "a Tamura", "by Ferris and Sons", "no brand")),
    ("bought", ("bought in Utrecht in 2018", "a present from the office", "second hand", "ordered online last winter")),
    (
        "problem",
        ("rattles when it is cold", "the handle is loose", "has a scratch", "works again", "too loud at night"),
    ),
    ("color", ("matt black", "light oak", "cream", "brushed steel", "bottle green")),
    ("warranty", ("runs out in two years", "expired", "extended until 2029", "papers are in the drawer")),
    ("place", ("in the cellar", "in the hall cupboard", "by the window", "lent to a friend")),
)
_YEARS = range(2004, 2026)
_OF_YEAR = (
    (
        "holiday",
        ("walked along the coast of Brittany", "a cottage in the Tatras", "stayed at home", "sailed off Croatia"),
    ),
    ("project", ("moved the archive", "opened the second shop", "led the audit", "wrote the handbook")),
    ("concert", ("a string quartet in the old mill", "an open air with rain", "jazz in a cellar", "the town choir")),
    ("marathon", ("finished in four hours", "gave up at thirty kilometres", "only cheered", "ran with a colleague")),
    ("resolution", ("less sugar", "more letters by hand", "learn to swim properly", "call grandmother weekly")),
)
_HOW = ("", ", as far as I know", ", and happy with it", ", said with a laugh", ", since the move", ", for the moment")


def memories(count: int, seed: int = 7) -> list[Fact]:
    """So many facts, the newest first, the targets somewhere among them.

    Raises:
        ValueError: there are fewer than the targets, or more than can be invented.
    """
    rng = random.Random(seed)
    targets = [(line[0], line[1]) for line in _lines()]
    if not len(targets) <= count <= len(targets) + len(_others()):
        raise ValueError(f"from {len(targets)} to {len(targets) + len(_others())} memories can be made, not {count}")
    chosen = [
        (label, f"{rng.choice(contents)}{rng.choice(_HOW)}")
        for label, contents in rng.sample(_others(), count - len(targets))
    ]
    told = [*targets, *chosen]
    rng.shuffle(told)
    times = (_NEWEST - number * timedelta(hours=7) for number in range(count))
    return [
        Fact(slot_name(label), content, created_at=at, updated_at=at, valid_from=at)
        for (label, content), at in zip(told, times, strict=True)
    ]


def questions() -> list[Question]:
    """Three for each target, by label, by content and by meaning."""
    return [
        Question(text, label, kind) for label, _, *texts in _lines() for kind, text in zip(KINDS, texts, strict=True)
    ]


def _lines() -> list[list[str]]:
    return [[part.strip() for part in line.split("|")] for line in _TARGETS.strip().splitlines()]


def _others() -> list[tuple[str, tuple[str, ...]]]:
    taken = {line[0] for line in _lines()}
    people = [(f"{who}s_{what}", contents) for who in _WHO for what, contents in _OF_WHO]
    friends = [(f"friend_{name}_{what}", c) for name in _NAMES for what, c in _OF_WHO]
    things = [(f"{thing}_{what}", contents) for thing in _THINGS for what, contents in _OF_THING]
    years = [(f"{what}_{year}", contents) for year in _YEARS for what, contents in _OF_YEAR]
    return [each for each in (*people, *friends, *things, *years) if each[0] not in taken]


_NAMES = (
    "anna boris carmen dev elif farid greta hugo irina jonas kofi lena marek nadia olu petra quentin rosa stefan tara "
    "umar vera wanda xavier yuki zoe"
).split()
