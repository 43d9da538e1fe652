"""What must not be remembered is told from what may be, however it is said."""

from __future__ import annotations

import pytest

from lkmongo.confidential import holds_secret, secrets_in, without_secrets

SECRETS = """
my card number is 4111 1111 1111 1111 cvv 123
my card number is 4111 1111 1111 1111
4111-1111-1111-1111
4111.1111.1111.1111
4111, 1111, 1111, 1111
it is 4111111111111111, valid until 12/27
4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
four one one one one one one one one one one one one one one one
four, one, one, one, one, one, one, one, one, one, one, one, one, one, one, one
forty-one eleven eleven eleven eleven eleven eleven eleven
my amex is 3782 822463 10005
note that my credit card is 4111 1111 1111 1112
the number on the card is 4929 0000 0000 0001 by the way
pay with 5555 5555 5555 4444 please
the gift card 6034 9320 1234 5678
cvv 123
the CVC is 4321
c.v.v. 123
security code: 987
remember that my pin is 1234
PIN 1234
my pin's 1234
my p.i.n. is 1 2 3 4
pin: one two three four
my pin is twelve thirty four
the pin for my card is 1234
the PIN I always use on my phone is 998877
pin code 560001
my pin has been changed to 7781
I changed my pin, it's now 4455
1234 is my pin
use 1234 as the new pin
put 4711 for my pin
my social security number is 078-05-1120
my social is 078 05 1120
ssn 078051120
123-45-6789
my ssn: zero seven eight zero five one one two zero
national insurance number QQ 12 34 56 C
my password is hunter2
the wifi password is swordfish
password: correct horse battery staple
my password for the shop is swordfish
the password I use for everything is Tr0ub4dor
wifi password hunter2
swordfish is my password
remember that swordfish is my password
use hunter2 as my password
hunter2 is the password
my passphrase is the quick brown fox
the passcode is 8812
my passwords are hunter2 and swordfish
my api key is abcd1234efgh
sk-proj-abcdefghij0123456789
ghp_abcdefghijklmnopqrstuvwxyz0123456789
the token is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl
connect to mongodb://robin:hunter2@example.org/db
my verification code is 482913
the one-time code is 12 34 56
recovery code ABCD-1234
my IBAN is DE89 3704 0044 0532 0130 00
transfer it to de89370400440532013000
GB82 WEST 1234 5698 7654 32
my bank account number is 12345678
sort code 12-34-56
routing number 021000021
my passport number is C01X00T47
passport number C 0 1 X 0 0 T 4 7
my driver's licence is MORGA753116SM9IJ
mon mot de passe est soleil
meine PIN ist 1234
mein Passwort lautet hunter2
meine Geheimzahl ist eins zwei drei vier
mein Kennwort ist sonne
mi contraseña es gato
la clave es 1234
minha senha é gato
mijn wachtwoord is zon
mijn pincode is 1234
ma carte bancaire est 4929000000000001
le code secret est 1234
密码是1234
パスワードはsakura
暗証番号は1234
мой пароль: солнце
my\u00a0pin\u2009is\u00a0\uff11\uff12\uff13\uff14
my pin is \u0661\u0662\u0663\u0664
my pin is 1\u200b23\u200b4
"""

INNOCENT = """
where is order 1001
my order number is 4111-2222
order 123-45-6789 has not arrived
order number 1234567890123456
my phone number is 555-123-4567
please call me at +1 (415) 555-2671
my mobile number is +49 151 23456789
call me on 0151 2345 6789
my birthday is 04/05/1987
I was born on 12 March 1985
our anniversary is 2014-06-21
it cost 1,234.56 dollars
I paid 12,000 euros in 2023
I live at 1234 Main Street, 94103 San Francisco
the address is 10115 Berlin, room 1204
my customer number is 1234567890
my flight is LH1234 on 5 May 2027
tracking number 1Z9999W99999999999
my locker code is 4471
the gate code is 4471
my favorite number is 1234
my loyalty card number is 1234567890123
my library card is 21234567890123
the card ending in 1111 was charged twice
my credit card is a Visa
do you have gift cards
I forgot my PIN
I want to change my pin
how do I reset my password
my password is not working
my password is wrong
the password was changed in 2019
the password is too short, it needs 12 characters
the password is 12 characters long
the password page is broken
my password manager is 1Password
did you get the password reset email on 3 May 2027
please keep my password safe
what is my pin
I lost my card
where do I find the security code
the security code is missing
I collect enamel pins
my bowling pin collection has 150 pins
pin the post to the board
my pin board is 120 cm wide
my passport expires in 2031
my passport is in the drawer
I renewed my driver's license in 2019
my bank account is with Chase
my social life is great
I am on social media since 2009
my social worker is Ana
a token of appreciation
the key to success is patience
my API key does not work
my secret is that I love opera
tengo 1234 euros
meine Bestellung ist 1001
my seat is 12A and my gate is 204
the meeting is at 10:30 on 2026-01-12
IMEI 356938035643809
ISBN 978-3-16-148410-0
my ip address is 192.168.100.200
it weighs 3.14159265 kilograms
call me double oh seven
I have one dog, two cats and three birds
remember that my wife is allergic to penicillin
I ordered items 1001, 1002, 1003 and 1004
room 4111, floor 11
"""


def lines(table: str) -> list[str]:
    return table.strip().split("\n")


@pytest.mark.parametrize("text", lines(SECRETS))
def test_a_secret_is_one_however_it_is_told(text: str) -> None:
    assert holds_secret(text)
    assert without_secrets(text) == ""


@pytest.mark.parametrize("text", lines(INNOCENT))
def test_what_is_no_secret_is_kept_whole(text: str) -> None:
    assert secrets_in(text) == frozenset()
    assert without_secrets(text) == text
