"""Whether something was said in another language than English, cheaply."""

from __future__ import annotations

import unicodedata

from lkmongo.agent.responder.text import words
from lkmongo.agent.responder.vocabulary import word_set

_COMMON = {
    word
    for text in (
        "ich ist und nicht das wie bitte danke wo meine mein heisse heiße mir mich kannst kann können wann warum guten hallo bin vielen dank schön danke",
        "je suis est et pas où comment merci s'il vous plaît bonjour mon ma moi quel quelle mes pourquoi avez voulez peux salut beaucoup",
        "el la los las es y no dónde donde cómo gracias por favor hola mi qué cuál tengo quiero puedes está estoy pedido llamo muchas buenos buenas días",
        "il è e non dove come grazie per favore ciao mio mia che sono vorrei posso mi chiamo buongiorno quando perché mille molto",
        "o a é não onde como obrigado obrigada por favor olá meu minha qual quero você pode está estou chamo",
        "ik ben en niet waar hoe dank je alsjeblieft hallo mijn wat kan jij graag heet waarom wil",
    )
    for word in text.split()
}
_ENGLISH = word_set(
    """the a i is are my you what where how do can please name and to of that it in for me hello hi thanks order remember
    forget tell about know not have was am this on with your like no as bin la el o e by no los las per"""
)


def is_foreign(text: str) -> bool:
    """Whether the text is in another script, or most of its words are among the commonest of another language."""
    letters = [char for char in text if char.isalpha()]
    if letters and sum(unicodedata.name(char, "LATIN").startswith("LATIN") for char in letters) < len(letters) / 2:
        return True
    said = words(text)
    foreign = sum(word in _COMMON - _ENGLISH for word in said)
    return foreign >= 2 and foreign > sum(word in _ENGLISH for word in said) and foreign >= len(said) / 3
