"""What callers say of who they are, and what is none of it, in seven languages."""

from __future__ import annotations

NAMES = ["Robin Fletcher", "José Núñez", "Dr. Anna-Lena Meyer"]
CLAIMS = """
0 Yes hi, this is Robin.
0 Robin speaking
0 Robin here.
0 my name's robin fletcher
0 My name is Robin.
0 it's me, Robin
0 Hey, it's Robin again.
0 Robin.
0 robin
0 Robin Fletcher.
0 Yes, Robin.
0 uh yes Robin Fletcher
0 Hello, Robin Fletcher.
0 Fletcher, Robin Fletcher
0 Fletcher. Robin Fletcher.
0 The name's Fletcher, Robin Fletcher.
0 Robin Fletcher here, I'm calling about my order.
0 hi this is robin i'm calling about my order
0 Hi, this is Robin, can you hear me?
0 Hi. This is Robin. Where is my parcel?
0 hello this is robin fletcher can you help me
0 I'm Robin.
0 I\u2019m Robin, and I haven't received my lamp.
0 Good morning, Mr Fletcher speaking.
0 You're speaking with Robin.
0 Call me Robin.
0 as I said, this is Robin
0 No, this is Robin.
0 I'm Robin, my wife ordered a lamp last week.
0 Robin Fletcher is my name
0 well uh I am uh Robin
0 This is Robin Fletcher calling.
0 ROBIN FLETCHER
0 I ordered a lamp last week, my name is Robin.
2 My name is Annalena Meyer.
2 this is anna lena meyer
2 Doctor Meyer speaking
1 This is Jose Nunez.
0 hier ist Robin
0 Hallo, hier ist der Robin.
0 Ja guten Tag, Fletcher am Apparat.
2 ich bin die Anna
2 Meyer am Apparat
2 Guten Tag, Meyer.
2 Meyer, guten Tag.
2 Guten Tag, Meyer hier, ich habe eine Frage.
2 Hier spricht Frau Doktor Meyer.
2 Hier ist Frau Meyer.
2 Mein Name ist Anna-Lena Meyer.
2 Meyer ist mein Name.
2 ich heiße Anna und hätte eine Frage
2 Ich bin's, Anna.
2 Ich bin es, die Anna.
2 Ja, hier Meyer.
2 Nein, hier ist Anna Meyer.
2 Sie sprechen mit Anna Meyer.
2 Meyer, Anna Meyer.
2 Wie gesagt, ich bin Anna Meyer.
2 Äh, Anna Meyer.
1 soy José
1 Hola, soy José Núñez, llamo por un pedido.
1 Me llamo José.
1 Mi nombre es José Núñez.
1 Buenos días, le habla José.
1 José Núñez al habla
1 Sí, soy yo, José.
2 Bonjour, c'est Anna.
2 je m'appelle Anna Meyer
2 Je suis Anna-Lena.
2 Anna Meyer à l'appareil
0 Goedemorgen, met Robin.
0 Met Robin Fletcher.
0 U spreekt met Robin
0 Ik ben Robin, ik heb een vraag.
0 mijn naam is Robin Fletcher
0 Pronto, sono Robin.
0 Mi chiamo Robin
0 sono io, Robin
0 Olá, eu sou o Robin.
0 Meu nome é Robin Fletcher
0 Aqui é o Robin, eu queria falar de um pedido
"""

NO_CLAIMS = """
This is Robin. Robin can't come to the phone.
Is Robin there?
Can I speak to Robin?
can i speak to robin please
Who is Robin?
who's robin
Do you know Robin?
Is this Robin?
This is Robin?
Robin?
Am I Robin?
I'm Robin, right?
I'm not Robin
this isn't Robin
No, not Robin.
I am not Robin Fletcher.
I'm Robin's brother.
this is Robin's wife
This is Robins wife
Robin's wife here.
Robin's phone.
it's Robin's order
I'm the wife of Robin
This is the mother of Robin.
I'm calling for Robin
I'm calling on behalf of Robin Fletcher.
my son Robin
My son, Robin, ordered a lamp.
This is my wife, Robin.
This is Robin, my son.
this is robin my husband
This is Robin, well, his wife.
I'm Robin, I mean, I'm his brother.
he said he is Robin
She says, this is Robin.
He told me: I'm Robin.
say I am Robin
Please say "I am Robin".
Repeat: my name is Robin.
If I'm Robin, what did I order?
Pretend I'm Robin.
Tell him this is Robin.
He is Robin.
His name is Robin.
her husband's name is Robin
The order is for Robin.
I'd like to talk about Robin.
Robin ordered a lamp.
Robin told me to call you.
Robin isn't here.
Robin is not at home, can I help?
Thanks, Robin.
Okay, Robin.
hi robin
Bye, Robin!
I met Robin yesterday.
This is Robin Smith.
Robin Smith speaking
My name is Robin Miller.
My first name is Robin, my last name is Smith.
This is Anna Fletcher.
Anna Fletcher.
Fletcher Smith here
My name is Robin. My name is Anna.
This is Robin and Anna.
Robin or Anna
I think this is Robin
Maybe I'm Robin.
The bird in my garden is a robin.
there's a robin singing
Robinson speaking.
Yes, that's right.
Where is my order?
I'm fine, thanks.
My order number is 1234.
this is robin who called yesterday
the customer is Robin Fletcher
My neighbour ordered it. It's Robin.
I want Robin here.
Put Robin on the line.
Robin, can you help me?

Ist Robin da?
Kann ich mit Robin sprechen?
Wer ist Robin?
Bin ich Anna?
Ich bin nicht Robin.
Hier ist nicht Anna.
Ich bin Robins Frau.
Hier ist Robins Bruder.
ich bin die Frau von Robin
Ich bin der Mann von Anna Meyer.
ich bin die Mutter von der Anna
Ich rufe für Anna an.
Ich rufe im Namen von Anna Meyer an.
meine Frau Anna
Meine Tochter, Anna, hat bestellt.
Hier ist meine Frau Meyer.
Er sagt, er ist Robin.
Sie hat gesagt, ich bin Anna.
Sag: ich bin Robin
Wenn ich Anna bin, was dann?
Seine Frau heißt Anna.
Anna ist nicht da.
Anna hat eine Lampe bestellt.
Ich kenne Anna Meyer.
Hier ist Anna Schmidt.
Ich heiße Anna Schmidt.
Schmidt am Apparat
Danke, Anna.
Hier ist Anna Meyer, oder?
Ich suche Anna.
Es geht um Anna Meyer.
Wegen Anna Meyer rufe ich an
Der Anna gehört das Telefon.
Ich bin müde.
No soy José.
¿Está José?
¿Es usted José?
¿Quiero hablar con José?
Soy la mujer de José.
Soy el hermano de José Núñez.
Mi hijo José
José no está.
Llamo de parte de José.
Él dice que es José.
Je ne suis pas Anna.
Je suis le mari d'Anna.
C'est Anna ?
Ce n'est pas Anna.
Je voudrais parler à Anna.
C'est pour Anna
Ik ben niet Robin.
Ik ben de vrouw van Robin.
Is Robin daar?
Met de vrouw van Robin.
Non sono Robin.
Sono la moglie di Robin.
Si chiama Robin.
Não sou o Robin.
Sou a mulher do Robin.
Posso falar com Robin?
"""

DENIALS = """
This is not Robin's phone.
Ich bin der Robin nicht.
that's not my number
That is not my phone number.
This isn't my phone.
it's not my number anymore
I'm not Robin
No, I'm not Robin Fletcher.
nope, not Robin
this isn't Robin
This is not Robin.
You've got the wrong person.
you have the wrong number
Sorry, wrong number.
I think you've got the wrong number
This must be the wrong person.
Robin isn't here
Robin is not at home.
Robin doesn't live here anymore
There's no Robin here.
That's not me.
That's not my name.
I'm someone else.
You're confusing me with someone else.
you've mixed me up with somebody
I'm Anna, not Robin.
This is Robin's wife.
I'm Robin's brother.
I'm calling on behalf of Robin.
I'm calling from my neighbour's phone
this is my wife's phone
Das ist nicht meine Nummer.
Das ist nicht mein Telefon
Ich bin nicht Robin.
Nein, nicht Robin.
Sie haben die falsche Person
Falsche Nummer.
Da sind Sie falsch verbunden.
Sie haben sich verwählt.
Das bin ich nicht.
Robin ist nicht da.
Ich bin Robins Frau.
Ich bin die Frau von Robin.
Sie verwechseln mich
Hier gibt es keinen Robin.
No soy Robin.
No es mi número.
Número equivocado
Je ne suis pas Robin
Ce n'est pas mon numéro de téléphone.
Ik ben niet Robin.
Dat is niet mijn nummer.
Verkeerd nummer
Non sono Robin.
Non è il mio numero.
Não sou o Robin.
Não é o meu número
"""

NO_DENIALS = """
I'm not sure
not now
that's not my order number
It's not my order.
That's not my address.
I'm not happy with the lamp.
No.
No, thanks.
This is Robin.
I'm Robin.
Yes, that's my number.
I entered the wrong number on the form.
You sent me the wrong number of lamps.
I ordered the wrong one by mistake
He said he's not Robin.
Am I not Robin?
Is this not Robin?
Isn't that my number?
Why is Robin not here?
If I'm not Robin, who is?
It's not Robin's fault.
I don't have my number with me.
I'm not at home.
I'm not the best at this.
This is Robin, I'm not sure about my order.
Can I speak to Robin?
My phone is not working.
I'm calling about my wife's phone.
Not right now, I'm driving.
Ich bin nicht sicher.
Nein, danke.
Das ist nicht meine Bestellnummer.
Das ist nicht meine Adresse.
Ich bin nicht zufrieden.
Das stimmt nicht.
Ich habe die falsche Nummer eingegeben.
Sie haben mir die falsche Lampe geschickt.
Nicht jetzt.
Ist Robin nicht da?
Hier ist Robin.
No estoy seguro.
No es mi número de pedido.
Je ne suis pas sûr.
Ce n'est pas mon adresse
Ik ben niet zeker.
Non sono sicuro.
Não sei.
"""

GUARDS = """
{} is not here
{} can not come to the phone
{} ist nicht da
je voudrais parler a {}
quiero hablar a {}
this is {}, well, his wife
I am {}, I mean, I'm his brother
{} wants to know
{} ordered it
I know {}
ich suche {}
si chiama {}
se llama {}
her name is {}
they are {}
suppose this is {}
he says. This is {}
this is {}, she said
I'm not {}
this is not {}
is {} there
who is {}
can I speak to {}
I'm calling for {}
on behalf of {}
I am the wife of {}
my son {}
this is {}'s wife
I'm {}'s brother
he said he is {}
say this is {}
if I am {}
ich bin nicht {}
ich bin die Frau von {}
mein Sohn {}
er sagt er ist {}
no soy {}
soy la madre de {}
je ne suis pas {}
ik ben niet {}
non sono {}
não sou {}
"""


def lines(table: str) -> list[str]:
    """The utterances of a table."""
    return [line for line in table.splitlines() if line]
