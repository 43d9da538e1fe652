"""The words with which callers say who they are, in seven languages: folded, without accents and apostrophes.

English, German, Spanish, French, Dutch, Italian and Portuguese. `naming` puts them together.
"""

from __future__ import annotations

import re


def any_of(words: str | frozenset[str]) -> str:
    """The pattern of any of these, the longest first: words, or phrases with `|` between them."""
    if isinstance(words, frozenset):
        found = set(words)
    else:
        found = {" ".join(each.split()) for each in (words.split("|") if "|" in words else words.split())}
    return "(?:" + "|".join(map(re.escape, sorted(found, key=lambda each: (-len(each), each)))) + ")"


def whole(words: str | frozenset[str]) -> str:
    """As `any_of`, and not as a part of longer words."""
    return rf"(?<!\S){any_of(words)}(?!\S)"


def listed(words: str) -> frozenset[str]:
    """Words separated by spaces."""
    return frozenset(words.split())


TITLES = listed(
    "mr mrs ms miss mister dr doctor prof professor sir madam herr frau fraulein doktor ing dipl sr sra srta senor"
    " senora senorita don dona monsieur madame mademoiselle mme mlle meneer mevrouw mevr dhr signor signora signore"
    " signorina sig senhor senhora"
)
SUFFIXES = listed("jr sr junior senior ii iii iv phd md msc bsc ba ma")
PARTICLES = listed("von van vom zu zur der den de del della di da do dos das du la le el al bin ibn ter ten af av y e")

CLITICS = listed("it that this who what where when here there he she name how let")
"""Before `'s` it is "is" after these, and the sign of a possessive after others."""
GERMAN_ES = listed("bin ist war geht gibt hab wars")
ELISIONS = listed("c j m l d n s t qu all dell nell sull un")
"""What French and Italian put before a vowel."""

YES = listed(
    "yes yeah yep yup ja jo jawohl oui sim uh uhm um ehm ehem aeh ahm ah euh hm hmm mhm mm eh si correct genau"
)
"""Words of agreement and hesitation, with which a bare name is an answer."""
GREETINGS = """
how are you | can you hear me | hi | hi there | hello | hello there | hey | hey there | good morning | good
afternoon | good evening | good day | morning | hallo | servus | moin | moin moin | tach | guten tag | guten
morgen | guten abend | schonen guten tag | gruss gott | gruss dich | gruezi | hola | buenos dias | buenas tardes
| buenas noches | buenas | bonjour | bonsoir | salut | allo | goedemorgen | goedemiddag | goedenavond |
goedendag | goeiemorgen | hoi | dag | pronto | buongiorno | buonasera | salve | ciao | ola | bom dia | boa tarde
| boa noite | alo
"""
FILLERS = """
well | so | ok | okay | sure | just | really | actually | again | still | oh | sorry | please | thanks | thank
you | thank you very much | excuse me | pardon | of course | certainly | absolutely | right | yes it is | that
is right | that is correct | that is me | thats me | thats right | as i said | like i said | as i told you | i
told you | i already told you | i said | also | na | nun | gut | doch | bitte | danke | nochmal | noch mal |
wieder | entschuldigung | verzeihung | naturlich | wie gesagt | das bin ich | das stimmt | freut mich | bueno |
pues | claro | mire | gracias | por favor | de nuevo | otra vez | como le dije | alors | merci | encore | bien
sur | comme je l ai dit | c est ca | dus | nou | bedankt | opnieuw | zoals gezegd | allora | ecco | grazie |
certo | di nuovo | entao | bem | obrigado | obrigada | de novo
"""
LIGHT = listed(
    "the der die das den dem el la o a os il le uh um ahm aeh euh eh just only really actually called named namens"
    " named still wirklich eigentlich even at all mehr longer anymore realmente vraiment echt davvero"
)
"""What may stand between a form or a negation and the name."""

YOU_SPEAK_WITH = """
you are speaking with | you are speaking to | you are talking with | you are talking to | you re speaking with |
sie sprechen mit | du sprichst mit | sie reden mit | u spreekt met | je spreekt met | esta hablando con | habla
usted con | vous parlez a | vous etes avec | sta parlando con | parla con | esta falando com
"""
IS_ME = """
it is me | its me | this is me | ich bin es | ich bins | soy yo | c est moi | ik ben het | sono io | sou eu
"""
"""After these a comma may stand before the name."""
STRONG = """
i am | im | i am called | my name is | my names | my first name is | my full name is | call me | you can call me
| i go by | ich bin | ich heisse | mein name ist | mein name lautet | mein vorname ist | mein nachname ist |
hier spricht | am apparat ist | am telefon ist | soy | yo soy | me llamo | mi nombre es | le habla | te habla |
aqui habla | je suis | je m appelle | moi c est | mon nom est | mon nom c est | mon prenom est | ik ben | mijn
naam is | ik heet | mi chiamo | io sono | sono | il mio nome e | sou | eu sou | me chamo | eu me chamo | chamo
me | meu nome e | o meu nome e | aqui fala | aqui quem fala e | quem fala e
"""
"""Only of oneself: these may follow whatever was said before."""
IN_SENTENCE = """
this is | hier ist | hier | aqui | aqui es | aqui esta | ici | met | dit is | hier is | qui | qui parla | qui e
| aqui e | habla | parla | fala
"""
"""Of oneself as of others: nothing else may stand before them in their sentence."""
IN_TURN = """
it is | its | c est | name is | the name is | names
"""
"""These may refer to what was said before, so nothing may have been."""
AFTER = """
speaking | here | calling | is my name | is the name | on the line | on the phone | am apparat | am telefon |
hier | mein name | ist mein name | ist der name | al habla | al aparato | aqui | es mi nombre | a l appareil |
au telephone | au bout du fil | ici | est mon nom | aan de lijn | aan de telefoon | is mijn naam | al telefono |
all apparecchio | e il mio nome | falando | ao telefone | e o meu nome
"""
"""These follow the name instead."""
GOES_ON = """
i | im | id | ive | and i | and im | and my | and can | and could | can | could | do | my | we | from | calling
| about | ich | und ich | und mochte | und habe | und hatte | wir | aus | mein | meine | konnen | konnten | es
geht | ich habe | quiero | quisiera | llamo | tengo | necesito | y quiero | y quisiera | y llamo | y tengo | je
| j | et je | et j | ik | en ik | chiamo | vorrei | ho | e vorrei | e ho | eu | e eu | queria | gostaria | estou
| preciso
"""
"""How a sentence goes on after a name where speech recognition has put no comma."""

RELATIONS = listed(
    "wife husband partner son daughter brother sister mother father mom mum mommy mummy dad daddy parent girlfriend"
    " boyfriend fiance fiancee roommate flatmate housemate neighbour neighbor friend assistant secretary carer"
    " caregiver nurse lawyer attorney colleague coworker boss manager employee cousin uncle aunt grandson"
    " granddaughter grandmother grandfather grandma grandpa nephew niece child kid stepson stepdaughter widow widower"
    " ex guardian representative spouse twin family landlord"
    " frau mann ehefrau ehemann partnerin sohn tochter bruder schwester mutter vater mama papa eltern freund freundin"
    " mitbewohner mitbewohnerin nachbar nachbarin assistent assistentin sekretar sekretarin betreuer betreuerin anwalt"
    " anwaltin kollege kollegin chef chefin cousine onkel tante enkel enkelin oma opa neffe nichte kind witwe witwer"
    " verlobte verlobter lebensgefahrte lebensgefahrtin schwager schwagerin pfleger pflegerin mitarbeiter"
    " mitarbeiterin gatte gattin"
    " esposa esposo mujer marido hijo hija hermano hermana madre padre novio novia amigo amiga vecino vecina companero"
    " companera secretaria secretario asistente abogado abogada primo prima tio tia nieto nieta abuelo abuela pareja"
    " cunado cunada sobrino sobrina"
    " femme mari epouse epoux fils fille frere soeur mere pere maman copain copine ami amie voisin voisine compagnon"
    " compagne conjoint conjointe secretaire assistante avocat avocate collegue oncle neveu"
    " vrouw man echtgenoot echtgenote zoon dochter broer zus moeder vader vriend vriendin buurman buurvrouw collega"
    " moglie marito figlio figlia fratello sorella mamma fidanzato fidanzata amico amica vicino vicina compagno"
    " compagna segretaria avvocato"
    " mulher filho filha irmao irma mae pai namorado namorada vizinho vizinha companheiro companheira advogado colega"
)
MINE = listed(
    "my our mein meine meinen meiner meinem unser unsere mi mis nuestro nuestra mon ma notre mijn onze mio mia nostro"
    " nostra meu minha nosso nossa"
)
THEIRS = listed(
    "his her their sein seine seiner seinem seinen ihr ihre ihrer ihrem ihren deren dessen su sus son sa leur zijn haar"
    " hun suo sua loro seu dele dela"
)
OF = listed(
    "of for to from about with by regarding behalf concerning von vom fur wegen mit zu zum uber bei uber namens"
    " de du pour par sur avec chez para con por sobre di per com voor van over naar"
)
"""Before a name these speak of somebody: "the mother of", "on behalf of", "calling for"."""
LIGHT_OF = listed("the der die das den dem el la o il le a an")
SEEKS = listed(
    "know knows need want see call calls ask tell told get reach meet find love visit invite kenne kennen suche"
    " brauche kennst kennt rufe frage fragen sprechen erreichen ruf busco conozco llamar cherche connais appeler ken"
    " zoek cerco conosco procuro conheco gibt heisst"
)
"""Verbs whose object a name is."""
THIRD = listed(
    "is was has had wants wanted will would does did told said says asked ordered bought lives lived works worked"
    " called needs needed gave who whose moved died lost ist war hat hatte will wollte mochte sagt sagte wohnt"
    " braucht der es esta era tiene quiere dijo vive necesita que est a veut voudrait etait habite qui heeft wil zei"
    " woont ha vuole aveva disse tem quer estava mora precisa"
)
"""What follows a name that is spoken of."""
THEY = listed("he she they er elle hij zij lei lui ele ela ella ellos")
REPORTS = listed(
    "said says say saying tell tells told telling pretend pretends repeat repeats write writes wrote if unless suppose"
    " supposing imagine claims claim claimed thinks believes assume answer answers reply"
    " sagt sagte sag sage sagen gesagt wenn falls angenommen behauptet behaupten wiederhole schreib schreibe ob glaubt"
    " dice dijo diga decir digo cree repite finge dit dire dites pretend pense croit zegt zei zeg zeggen denkt"
    " disse dica dicono detto crede diz diga disseram finja"
)
NEGATIONS = listed("not never nicht nie kein keine keinen keiner niet geen pas nao nunca jamais ningun nessun nenhum")
NUMBERS = listed(
    "number phone telephone mobile cell cellphone handy telefon telefonnummer nummer handynummer rufnummer anschluss"
    " mobilnummer numero telefono movil celular portable telephone telefoon telefoonnummer mobiel mobieltje"
    " cellulare telefone telemovel"
)
NO = listed("nope nein nah nee no non nao")
"""Before a pause these answer a question, and say nothing of the name behind it."""

WRONG = """
wrong number | wrong person | wrong guy | wrong man | wrong woman | wrong lady | wrong one | wrong caller |
falsch verbunden | falsche nummer | falschen nummer | falsche person | falschen anschluss | falsche frau |
falschen mann | numero equivocado | persona equivocada | numero erroneo | numero sbagliato | persona sbagliata |
numero errado | pessoa errada | mauvais numero | mauvaise personne | verkeerd nummer | verkeerde nummer |
verkeerde persoon | verkeerd verbonden
"""
I_THINK = """
i think | i guess | i believe | i am afraid | im afraid | ich glaube | ich furchte | creo que | je crois que |
ik denk dat | credo che | acho que
"""
REACHED = listed(
    "that this it you das da sie du u je hier is must be have ve got reached dialled dialed called ist sind haben hast"
    " bist tiene es c est vous avez hebt heeft ha hai e voce tem wohl the a an die eine den el la le un una une het de"
    " il o s"
)
"""What may stand before `WRONG` where it is said of this call, and not of a form or of goods."""
BEHIND_WRONG = "here | hier | erwischt | gewahlt | angerufen | i think | i am afraid | im afraid"
MISDIALLED = """
sie haben sich verwahlt | sie haben sich wohl verwahlt | du hast dich verwahlt | haben sie sich verwahlt | se ha
equivocado | vous vous etes trompe | vous faites erreur | ha sbagliato numero | ha sbagliato persona
"""
SOMEBODY_ELSE = """
i am someone else | i am somebody else | im someone else | im somebody else | mistaking me for | mistaken me for
| confusing me with | confused me with | mixing me up | mixed me up | mixing us up | mixed us up | das ist nicht
mein name | sie verwechseln mich | ich bin jemand anders | ich bin jemand anderes | ich bin wer anders | me
confunde con | no es mi nombre | vous me confondez | ce n est pas mon nom | dat is niet mijn naam | non e il mio
nome | mi confonde con | nao e o meu nome | nao e meu nome | not the account holder | not the account owner
"""
NOT_ME = """
that is not me | this is not me | it is not me | that is not my name | this is not my name | it is not my name |
i am not him | i am not her | i am not that person | das bin ich nicht | der bin ich nicht | die bin ich nicht |
ich bin das nicht | ich bin es nicht | no soy yo | no soy esa persona | ce n est pas moi | dat ben ik niet | non
sono io | nao sou eu
"""
"""Only where nothing follows: "it is not me who ordered it" denies something else."""
GONE = """
does not live | no longer | passed away | died | is dead | has died | is out | has moved | moved | wohnt nicht |
wohnt hier nicht | ist verstorben | ist gestorben | no esta | n est pas | non c e | nao esta | is er niet
"""
"""What is said of a person who is not the one who is speaking."""
AWAY = "here | home | at home | in | there | around | available | da | hier | zu hause | zuhause | daheim | thuis"
FOR_SOMEBODY = "on behalf of | im namen von | im auftrag von | de la part de | namens"
NAME_IS = """
name is | names | surname is | mein name ist | nachname ist | ich heisse | me llamo | apellido es | je m appelle
| naam is | mi chiamo | cognome e | me chamo | chamo me | sobrenome e
"""
"""Who says this with another name has said it of themselves."""

KNOWN = frozenset(
    word
    for words in (IN_SENTENCE, IN_TURN, STRONG, AFTER, GOES_ON, FILLERS, GREETINGS, IS_ME)
    for word in words.replace("|", " ").split()
).union(TITLES, SUFFIXES, YES, NO, LIGHT, RELATIONS, MINE, THEIRS, OF, SEEKS, THIRD, THEY, REPORTS, NEGATIONS, NUMBERS)
"""Words that are no last name, however they are written."""
