"""How much is allowed to whom, by a clock that a test moves."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.web.limits import NEW_VISITORS, NEW_VISITORS_A_DAY, SITE, AddressLimit, Limit, NewVisitors, keys_of


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_a_minute_for_each_and_no_more():
    clock = Clock()
    limit = Limit(6, clock=clock)
    assert [limit.wait("a") for _ in range(6)] == [0] * 6
    assert limit.wait("a") == pytest.approx(10)
    assert limit.wait("b") == 0
    clock.now += 5
    assert limit.wait("a") == pytest.approx(5)
    clock.now += 5
    assert limit.wait("a") == 0
    clock.now += 3600
    assert sum(limit.wait("a") == 0 for _ in range(20)) == 6


def test_many_keys_are_not_kept_for_ever():
    limit = Limit(1, clock=Clock())
    for number in range(10_100):
        limit.wait(str(number))
    assert len(limit._left) == 10_000


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("192.0.2.7", ("192.0.2.7", None)),
        ("::ffff:192.0.2.7", ("192.0.2.7", None)),
        ("2001:db8:1:2:3::4", ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("fe80::1%eth0", ("fe80::/64", "fe80::/48")),
        ("::1", ("::/64", "::/48")),
    ],
)
def test_what_an_address_is_counted_as(address, keys):
    assert keys_of(ip_address(address)) == keys


def test_who_has_no_address_is_counted_together():
    assert keys_of(None) == ("unknown", None)


@given(st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped))
def test_addresses_of_one_network_are_one_and_those_of_one_site_have_a_limit_together(address):
    network, site = map(IPv6Network, keys_of(address))
    assert address in network
    assert network.subnet_of(site)
    assert (network.prefixlen, site.prefixlen) == (64, 48)
    assert keys_of(network[-1]) == keys_of(address)


def test_one_site_does_no_more_than_a_few_networks_do():
    limit = AddressLimit(10, clock=Clock())
    asked = [ip_address(f"2001:db8:1:{number:x}::1") for number in range(100) for _ in range(11)]
    assert sum(limit.wait(address) == 0 for address in asked) == 10 * SITE
    assert limit.wait(ip_address("2001:db8:2::1")) == 0
    assert sum(limit.wait(ip_address("192.0.2.1")) == 0 for _ in range(11)) == 10


def test_new_visitors_are_bounded_by_the_minute_and_by_the_day():
    clock = Clock()
    limit = NewVisitors(clock)
    address = ip_address("192.0.2.1")
    allowed = 0
    for _ in range(24 * 60):
        allowed += sum(limit.wait(address) == 0 for _ in range(NEW_VISITORS + 5))
        clock.now += 60
    assert NEW_VISITORS_A_DAY <= allowed <= 2 * NEW_VISITORS_A_DAY
    assert max(limit.wait(address) for _ in range(3)) > 60, "the day's, not the minute's"
    assert limit.wait(ip_address("192.0.2.2")) == 0
