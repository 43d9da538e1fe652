"""An order is told as well as its document allows, and the log says what it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from lkmongo.agent.tools import _order_sentence
from lkmongo.store.people.orders import read_order

PLAIN = {"order_id": "7", "items": [{"name": "Lamp", "quantity": 2}], "total": 40, "status": "shipped"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "Order 7 is shipped: 2 Lamp, 40.00 USD in total."),
        ({"items": [{"sku": "A-1", "qty": 2}]}, "Order 7 is shipped: 2 A-1, 40.00 USD in total."),
        ({"items": [{"sku": "A-1", "title": "Lamp"}]}, "Order 7 is shipped: Lamp, 40.00 USD in total."),
        ({"items": ["Lamp", "Cable"]}, "Order 7 is shipped: Lamp and Cable, 40.00 USD in total."),
        ({"items": "Lamp"}, "Order 7 is shipped: Lamp, 40.00 USD in total."),
        (
            {"items": [{"product": {"id": ObjectId(), "name": "Lamp"}, "quantity": {"value": Int64(3)}}]},
            "Order 7 is shipped: 3 Lamp, 40.00 USD in total.",
        ),
        ({"items": [{"name": "Lamp", "quantity": "2"}]}, "Order 7 is shipped: 2 Lamp, 40.00 USD in total."),
        ({"items": [{"sku": 4711, "count": 1.0}]}, "Order 7 is shipped: 4711, 40.00 USD in total."),
        ({"items": []}, "Order 7 is shipped: 40.00 USD in total."),
        ({"total": "42.50"}, "Order 7 is shipped: 2 Lamp, 42.50 USD in total."),
        ({"total": "42.50 EUR"}, "Order 7 is shipped: 2 Lamp, 42.50 EUR in total."),
        ({"total": "€42"}, "Order 7 is shipped: 2 Lamp, 42.00 € in total."),
        ({"total": "-5", "currency": "GBP"}, "Order 7 is shipped: 2 Lamp, -5.00 GBP in total."),
        ({"total": Decimal128("349.9")}, "Order 7 is shipped: 2 Lamp, 349.90 USD in total."),
        ({"total": {"amount": "12.5", "currency": "EUR"}}, "Order 7 is shipped: 2 Lamp, 12.50 EUR in total."),
        ({"status": {"code": "paid", "at": datetime.now(UTC)}}, "Order 7 is paid: 2 Lamp, 40.00 USD in total."),
        ({"order_id": 7}, "Order 7 is shipped: 2 Lamp, 40.00 USD in total."),
    ],
)
def test_a_shape_of_its_own_is_told_whole(changed, said, caplog):
    assert _order_sentence(read_order(PLAIN | changed)) == said
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("changed", "said", "cause"),
    [
        ({"total": None}, "Order 7 is shipped: 2 Lamp.", "total is missing"),
        ({"total": "1.234,50 EUR"}, "Order 7 is shipped: 2 Lamp.", "total is text in an unexpected form"),
        ({"total": float("nan")}, "Order 7 is shipped: 2 Lamp.", "total is not a usable number"),
        ({"total": Decimal128("Infinity")}, "Order 7 is shipped: 2 Lamp.", "total is not a usable number"),
        ({"total": True}, "Order 7 is shipped: 2 Lamp.", "total is a boolean"),
        ({"status": None}, "Order 7: 2 Lamp, 40.00 USD in total.", "status is missing"),
        ({"status": [{"state": "paid"}]}, "Order 7: 2 Lamp, 40.00 USD in total.", "status is a list"),
        ({"items": None}, "Order 7 is shipped: 40.00 USD in total.", "items is missing"),
        ({"items": {"A-1": 2}}, "Order 7 is shipped: 40.00 USD in total.", "items is a mapping"),
        (
            {"items": [{"colour": "Secret", "n": 2}, "Lamp"]},
            "Order 7 is shipped: an item without a name and Lamp, 40.00 USD in total.",
            "items[0] has no name: it is a mapping with the fields colour, n",
        ),
        (
            {"items": [{"name": "Lamp", "quantity": "a dozen"}]},
            "Order 7 is shipped: Lamp, 40.00 USD in total.",
            "items[0].quantity is text in an unexpected form",
        ),
        (
            {"items": None, "total": None, "status": " "},
            "Order 7 exists, but I have no details about it.",
            "items is missing; total is missing; status is text in an unexpected form",
        ),
    ],
)
def test_what_cannot_be_told_is_left_out_and_its_cause_is_logged_without_what_it_holds(changed, said, cause, caplog):
    assert _order_sentence(read_order(PLAIN | changed)) == said
    (line,) = caplog.records
    assert (line.levelname, line.message.endswith(f"was read in part: {cause}")) == ("WARNING", True)
    assert not {"Secret", "1.234", "dozen", "Lamp"} & set(line.message.split())


def test_whatever_stands_in_an_order_it_is_read(caplog):
    odd = [None, True, 1, 1.5, "", "x" * 10_000, b"", [], [[]], {}, {"a": {}}, [None], ObjectId(), datetime.now(UTC)]
    for value in odd:
        for field in ("items", "total", "status", "currency"):
            assert _order_sentence(read_order(PLAIN | {field: value})).startswith("Order 7")
        assert _order_sentence(read_order(PLAIN | {"items": [value]})).startswith("Order 7")
