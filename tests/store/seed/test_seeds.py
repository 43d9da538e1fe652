"""The sample data is what it promises to be, and a damaged folder is answered with its file and line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lkmongo
from lkmongo.errors import SeedError, UsageError
from lkmongo.model import Order, OrderItem, Profile, TenantScope, UserScope
from lkmongo.store.seed.seeds import SeedData, default_seed_folder, load_seeds

ROOT = Path(lkmongo.__file__).resolve().parents[1]

USERS = """\
# people
- user_id: u-1
  name: Ada
  email: ada@example.com
  preferred_language: en
  timezone: Europe/London
- user_id: u-1
  tenant_id: hotel
"""
ORDERS = """\
- order_id: 1001
  user_id: u-1
  status: shipped
  total: 42.50
  currency: EUR
  items:
    - name: Lamp
      quantity: 2
    - name: Bulb
- {order_id: "1001", tenant_id: hotel, user_id: u-2, status: paid, total: 0, items: [{name: Room}]}
"""


@pytest.fixture
def folder(tmp_path):
    """A small folder that is right."""
    return write(tmp_path / "seeds")


def write(folder, users=USERS, orders=ORDERS, **knowledge):
    (folder / "knowledge" / "hotel").mkdir(parents=True)
    for name, text in {
        "users.yaml": users,
        "orders.yaml": orders,
        "knowledge/returns.md": "# Returns\n\n45 days.\n",
        "knowledge/hotel/stay.md": "# Stay\n\nFrom 3 p.m.\n",
        **knowledge,
    }.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def refused(folder, **options):
    with pytest.raises(SeedError) as caught:
        load_seeds(folder, **options)
    return [caught.value.message, *(caught.value.why or "").splitlines()]


class TestSampleData:
    data = load_seeds(default_seed_folder())

    def test_there_are_passages_enough_of_a_length_to_be_read_out(self):
        lengths = [len(passage.content.split()) for _, passage in self.data.passages]
        assert len(lengths) >= 36
        assert all(40 <= length <= 150 for length in lengths)

    def test_each_passage_answers_a_question_of_its_own(self):
        titles = [(tenant, passage.title) for tenant, passage in self.data.passages]
        assert len(set(titles)) == len(titles)

    def test_no_passage_is_a_near_copy_of_another(self):
        def trigrams(text):
            words = re.findall(r"\w+", text.lower())
            return set(zip(words, words[1:], words[2:], strict=False))

        shingles = [(passage.title, trigrams(passage.content)) for _, passage in self.data.passages]
        for (one, left), (other, right) in combinations(shingles, 2):
            assert len(left & right) / min(len(left), len(right)) < 0.2, (one, other)

    def test_both_tenants_have_people_orders_and_knowledge(self):
        both = {"default", "lantern-hotel"}
        assert {profile.scope.tenant_id for profile in self.data.users} == both
        assert {owner.tenant_id for owner, _ in self.data.orders} == both
        assert {tenant.tenant_id for tenant, _ in self.data.passages} == both

    def test_a_stranger_has_orders_but_no_profile(self):
        strangers = {UserScope(tenant_id="default", user_id="u-100"), UserScope(tenant_id="default", user_id="u-200")}
        orders = [(owner, order.order_id) for owner, order in self.data.orders]
        assert [number for owner, number in orders if owner.user_id == "u-100"] == ["1001", "1002"]
        assert strangers <= {owner for owner, _ in orders}
        assert {"u-100", "u-200"}.isdisjoint(profile.scope.user_id for profile in self.data.users)

    def test_one_order_number_means_different_orders_in_the_two_tenants(self):
        same = [(owner.tenant_id, order) for owner, order in self.data.orders if order.order_id == "1001"]
        assert [tenant for tenant, _ in same] == ["default", "lantern-hotel"]
        assert same[0][1].items != same[1][1].items

    def test_nobody_has_a_real_address(self):
        text = "".join(path.read_text("utf-8") for path in default_seed_folder().rglob("*") if path.is_file())
        assert {address.rpartition(".")[2] for address in re.findall(r"@[\w.-]*\w", text)} <= {"example", "com"}
        assert set(re.findall(r"@(\w+)\.com", text)) == {"example"}
        assert all(number.startswith("555-01") for number in re.findall(r"\b\d{3}-\d{4}\b", text))


class TestRightFolder:
    def test_what_it_holds_is_loaded(self, folder):
        data = load_seeds(folder)
        assert data.users == (
            Profile(UserScope(tenant_id="default", user_id="u-1"), "Ada", "ada@example.com", "en", "Europe/London"),
            Profile(UserScope(tenant_id="hotel", user_id="u-1")),
        )
        assert data.orders == (
            (
                UserScope(tenant_id="default", user_id="u-1"),
                Order("1001", (OrderItem("Lamp", 2), OrderItem("Bulb", 1)), 42.5, "shipped", "EUR"),
            ),
            (UserScope(tenant_id="hotel", user_id="u-2"), Order("1001", (OrderItem("Room"),), 0.0, "paid", "USD")),
        )
        assert [(tenant, passage.source, passage.title) for tenant, passage in data.passages] == [
            (TenantScope("hotel"), "hotel/stay.md", "Stay"),
            (TenantScope("default"), "returns.md", "Returns"),
        ]

    @pytest.mark.parametrize("missing", ["users.yaml", "orders.yaml", "knowledge"])
    def test_a_part_may_be_missing(self, folder, missing):
        target = folder / missing
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        data = load_seeds(folder)
        sizes = {"users.yaml": data.users, "orders.yaml": data.orders, "knowledge": data.passages}
        assert {name for name, part in sizes.items() if not part} == {missing}

    def test_an_empty_list_is_no_mistake(self, tmp_path):
        assert load_seeds(write(tmp_path / "s", users="[]")).users == ()

    @pytest.mark.parametrize("number", ["1001", "0042", "0x1F", "1_000", "1:30", "'7'", "A-7"])
    def test_an_id_is_taken_as_it_is_written(self, tmp_path, number):
        data = load_seeds(write(tmp_path / "s", orders=ORDERS.replace("1001", number, 1)))
        assert data.orders[0][1].order_id == number.strip("'")

    @pytest.mark.parametrize("name", ["No", "2024-05-01", "12", "1.10", "Åsa 🙂", "'  Ada '"])
    def test_text_is_taken_as_it_is_written(self, tmp_path, name):
        data = load_seeds(write(tmp_path / "s", users=USERS.replace("Ada", name)))
        assert data.users[0].name == name.strip("' ")

    def test_a_field_left_empty_is_a_field_left_out(self, tmp_path):
        data = load_seeds(write(tmp_path / "s", users="- {user_id: u-1, name: , tenant_id: ~}"))
        assert data.users == (Profile(UserScope(tenant_id="default", user_id="u-1")),)

    def test_a_byte_order_mark_and_windows_line_ends_are_fine(self, tmp_path):
        data = load_seeds(write(tmp_path / "s", users=b"\xef\xbb\xbf" + USERS.replace("\n", "\r\n").encode()))
        assert len(data.users) == 2

    def test_hidden_and_other_files_are_not_read(self, folder):
        (folder / "knowledge" / ".draft.md").write_bytes(b"\xff")
        (folder / "knowledge" / ".git").mkdir()
        (folder / "knowledge" / ".git" / "a.md").write_bytes(b"\xff")
        (folder / "knowledge" / "photo.png").write_bytes(b"\xff")
        assert len(load_seeds(folder).passages) == 2

    @pytest.mark.parametrize(
        "name",
        [
            *("README.md", "readme", "README.de.md", "LICENSE", "LICENCE.txt", "CHANGELOG.md"),
            *(".gitkeep", ".users.yaml.swp", ".DS_Store", ".#orders.yaml", "#orders.yaml#"),
            *("orders.yaml~", "users.yaml.bak", "users.yaml.orig", "knowledge/returns.txt~", "knowledge/LICENSE.txt"),
        ],
    )
    def test_what_may_lie_beside_the_parts_is_passed_over(self, folder, name):
        before = load_seeds(folder)
        (folder / name).write_bytes(b"\xff")
        assert load_seeds(folder) == before

    def test_hidden_folders_are_passed_over(self, folder):
        before = load_seeds(folder)
        (folder / ".git").mkdir()
        (folder / ".git" / "orders.yaml").write_text("[")
        assert load_seeds(folder) == before

    def test_a_deeper_folder_belongs_to_the_tenant_of_the_first(self, folder):
        (folder / "knowledge" / "hotel" / "spa").mkdir()
        (folder / "knowledge" / "hotel" / "spa" / "pool.MD").write_text("Open.")
        found = {(tenant.tenant_id, passage.source) for tenant, passage in load_seeds(folder).passages}
        assert ("hotel", "hotel/spa/pool.MD") in found


class TestWrongFolder:
    def test_a_folder_that_is_not_there(self, tmp_path):
        assert refused(tmp_path / "nowhere") == [f"there is no folder {tmp_path / 'nowhere'}"]

    def test_a_folder_without_any_part(self, tmp_path):
        assert refused(tmp_path) == [f"{tmp_path} contains no seed data"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("order.yaml", "did you mean orders.yaml?"),
            ("user.yaml", "did you mean users.yaml?"),
            ("users.yml", "did you mean users.yaml?"),
            ("Orders.YAML", "did you mean orders.yaml?"),
            ("orders.json", "did you mean orders.yaml?"),
            ("memories.yaml", "only users.yaml, orders.yaml and knowledge/ are"),
            ("load.py", "only users.yaml, orders.yaml and knowledge/ are"),
            ("returns.md", "knowledge files belong in knowledge/"),
            ("returns.pdf", "knowledge files belong in knowledge/"),
            ("knowledge/returns.txt", None),
        ],
    )
    def test_a_file_that_would_not_be_read_is_named(self, folder, name, said):
        (folder / name).write_text(ORDERS)
        said = said or "is not read, only .md files are; lkmongo knowledge add reads it"
        assert refused(folder) == [f"{folder / name}: {said if 'is not' in said else f'is not read; {said}'}"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [("knowlege", "did you mean knowledge?"), ("hotel", "knowledge files belong in knowledge/")],
    )
    def test_a_folder_that_would_not_be_read_is_named(self, folder, name, said):
        (folder / name).mkdir()
        assert refused(folder) == [f"{folder / name}: is not read; {said}"]

    def test_a_misspelt_name_is_no_folder_without_seed_data(self, tmp_path):
        (tmp_path / "order.yaml").write_text(ORDERS)
        assert refused(tmp_path) == [f"{tmp_path / 'order.yaml'}: is not read; did you mean orders.yaml?"]

    def test_a_link_that_leads_nowhere_is_no_part_left_out(self, folder):
        (folder / "orders.yaml").unlink()
        (folder / "orders.yaml").symlink_to("gone.yaml")
        assert refused(folder, follow_links=True) == [
            f"{folder / 'orders.yaml'}: cannot be read: No such file or directory"
        ]

    @pytest.mark.parametrize("name", ["orders.yaml", "knowledge/returns.md", "knowledge"])
    def test_a_link_is_followed_only_if_that_is_asked(self, folder, tmp_path, name):
        path, real = folder / name, tmp_path / "elsewhere"
        before = load_seeds(folder)
        path.rename(real)
        path.symlink_to(real)
        (problem, *_) = refused(folder)
        assert problem.startswith(f"{path}: ")
        assert "a symbolic link, which only --follow-links follows" in problem
        assert load_seeds(folder, follow_links=True) == before

    def test_the_folder_may_be_a_link_only_if_that_is_asked(self, folder, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(folder)
        with pytest.raises(UsageError, match="is a symbolic link"):
            load_seeds(link)
        assert load_seeds(link, follow_links=True) == load_seeds(folder)

    def test_a_pipe_is_not_waited_for(self, folder):
        (folder / "orders.yaml").unlink()
        os.mkfifo(folder / "orders.yaml")
        assert refused(folder) == [f"{folder / 'orders.yaml'}: cannot be read: it is not a regular file"]

    def test_a_folder_that_may_not_be_read_is_named(self, folder, monkeypatch):
        monkeypatch.setattr(
            Path, "iterdir", lambda _self: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
        assert refused(folder) == [f"{folder} cannot be read", "Permission denied"]

    def test_a_folder_where_a_file_is_meant(self, tmp_path):
        (tmp_path / "users.yaml").mkdir()
        assert refused(tmp_path) == [f"{tmp_path / 'users.yaml'}: cannot be read: Is a directory"]

    @pytest.mark.parametrize(
        ("before", "after", "problem"),
        [
            ("42.50", "abc", '4: orders[0].total must be a number, not "abc"'),
            ("42.50", '"42.50"', '4: orders[0].total must be a number, not "42.50"'),
            ("42.50", "", "4: orders[0].total must be a number, not nothing"),
            ("42.50", "-1", "4: orders[0].total must be a number from 0 to 999999999, such as 42.50, not -1"),
            ("42.50", ".inf", "4: orders[0].total must be a number from 0 to 999999999, such as 42.50, not .inf"),
            ("42.50", "[1]", "4: orders[0].total must be a number, not a list"),
            ("42.50", "!!float [1]", "4: orders[0].total must be a number, not a list"),
            ("  total: 42.50\n", "", "1: orders[0] has no total"),
            (
                "status:",
                "state:",
                "3: orders[0] has no field state; accepted are order_id, user_id, tenant_id, status, ",
            ),
            (
                "order_id: 1001",
                "order_id: 1.5",
                "1: orders[0].order_id must be text, not the number 1.5; put it in quotes",
            ),
            ("order_id: 1001", "order_id: yes", "1: orders[0].order_id must be text, not the boolean yes; put it in"),
            ("order_id: 1001", "order_id: 2024-05-01", "1: orders[0].order_id must be text, not the date 2024-05-01; "),
            ("order_id: 1001", "order_id:", "1: orders[0].order_id must be text, not nothing"),
            ("order_id: 1001", "order_id: {$gt: ''}", "1: orders[0].order_id must be text, not a mapping"),
            ("order_id: 1001", "order_id: !!str [1]", "1: orders[0].order_id must be text, not a list"),
            ("order_id: 1001", "order_id: ''", "1: orders[0].order_id: the order id is empty"),
            ("order_id: 1001", f"order_id: {'9' * 129}", "1: orders[0].order_id: the order id has 129 characters; "),
            ("user_id: u-1", "user_id: 'u-1 '", "2: orders[0].user_id: the user id begins or ends with a space"),
            ("shipped", "'  '", "3: orders[0].status is empty"),
            ("shipped", "x" * 65, "3: orders[0].status has 65 characters; 64 are allowed"),
            ("shipped", '"a\\e[31m"', "3: orders[0].status must be one line without control characters"),
            ("EUR", "euro", '5: orders[0].currency must be three capital letters such as USD, not "euro"'),
            ("quantity: 2", "quantity: 0", "8: orders[0].items[0].quantity must be a whole number from 1 to 999999, "),
            (
                "quantity: 2",
                "quantity: 2.5",
                "8: orders[0].items[0].quantity must be a whole number from 1 to 999999, ",
            ),
            ("quantity: 2", "count: 2", "8: orders[0].items[0] has no field count; accepted are name, quantity"),
            ("    - name: Bulb", "    - Bulb", '9: orders[0].items[1] must have fields such as name, not be "Bulb"'),
            ("[{name: Room}]", "[]", "10: orders[1].items must be a list of at least one item, not an empty list"),
            ("[{name: Room}]", "Room", '10: orders[1].items must be a list of at least one item, not "Room"'),
            ("  status:", "  user_id: u-3\n  status:", "3: orders[0].user_id is given twice, first on line 2"),
            ("status:", "? [a]\n  : 1\n  status:", "3: orders[0] has no field a list; accepted are "),
            ("tenant_id: hotel, ", "", '10: orders[1]: the order_id "1001" of tenant default is used on line 1'),
            ("shipped", "a: b", "3: is not YAML: mapping values are not allowed here"),
            (
                "shipped",
                "'open",
                "11: is not YAML: while scanning a quoted scalar that begins on line 3, found unexpected",
            ),
            ("shipped", "*name", "3: is not YAML: found undefined alias 'name'"),
            ("shipped", '"\\UFFFFFFFF"', "1: is not YAML: "),
            ("shipped", "a\x07b", "3: is not YAML: it contains the character U+0007"),
            ("  status", "\tstatus", "3: is not YAML: "),
            ("- {", "---\n- {", "10: is not YAML: expected a single document in the stream"),
            (ORDERS, "# nothing\n", "1: is empty; fill it or remove it"),
            (ORDERS, "orders:\n" + ORDERS, "1: must be a list of orders, each starting with a dash, not a mapping"),
            (ORDERS, "[" * 20_000, "1: is nested too deeply"),
            (ORDERS, "- " * 20_000, "1: is nested too deeply"),
            (ORDERS, "&a [*a]", "1: orders[0] must have fields such as order_id, not be a list"),
        ],
    )
    def test_a_wrong_order_is_named_with_its_line(self, tmp_path, before, after, problem):
        assert before in ORDERS
        folder = write(tmp_path / "s", orders=ORDERS.replace(before, after, 1))
        assert refused(folder)[0].startswith(f"{folder / 'orders.yaml'}:{problem}")

    @pytest.mark.parametrize(
        ("before", "after", "problem"),
        [
            ("ada@example.com", "ada", "4: users[0].email: ada does not look like an e-mail address"),
            ("Europe/London", "Mars/Base", "6: users[0].timezone: Mars/Base is not a time zone"),
            ("Ada", "x" * 201, "3: users[0].name has 201 characters; 200 are allowed"),
            ("  tenant_id: hotel\n", "", '7: users[1]: the user_id "u-1" of tenant default is used on line 2'),
            (
                "name: Ada",
                "memories: [a]",
                "3: users[0] has no field memories; accepted are user_id, tenant_id, name, ",
            ),
        ],
    )
    def test_a_wrong_person_is_named_with_the_line(self, tmp_path, before, after, problem):
        folder = write(tmp_path / "s", users=USERS.replace(before, after, 1))
        assert refused(folder)[0].startswith(f"{folder / 'users.yaml'}:{problem}")

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("orders.yaml", ORDERS.replace("Lamp", "Lämp").encode("latin-1"), ":7: is not UTF-8 (byte 0xe4); save it"),
            ("knowledge/returns.md", b"# Returns\n\n45 days \x80\n", ":3: is not UTF-8 (byte 0x80); save it as UTF-8"),
            ("knowledge/returns.md", "", ": holds no text"),
            ("knowledge/returns.md", "# Returns\n\n## When\n", ": holds no text besides headings"),
        ],
    )
    def test_a_file_that_is_no_text_is_named(self, tmp_path, name, text, problem):
        folder = write(tmp_path / "s", **{name: text})
        assert refused(folder)[0].startswith(f"{folder / name}{problem}")

    def test_knowledge_without_files_is_named(self, tmp_path):
        (tmp_path / "knowledge").mkdir()
        assert refused(tmp_path) == [f"{tmp_path / 'knowledge'}: holds no .md files"]

    def test_a_folder_that_cannot_be_a_tenant_is_named(self, folder):
        (folder / "knowledge" / "inn ").mkdir()
        (folder / "knowledge" / "inn " / "a.md").write_text("Text.")
        assert "a.md: its folder names the tenant, but the tenant id begins or ends with a space" in refused(folder)[0]

    def test_a_file_name_that_is_not_utf_8_is_named(self, folder):
        (folder / "knowledge" / "caf\udce9.md").write_text("Text.")
        assert refused(folder) == [f"{folder}/knowledge/caf\ufffd.md: its name is not UTF-8"]

    def test_all_problems_are_told_at_once(self, tmp_path):
        folder = write(
            tmp_path / "s",
            users=USERS.replace("ada@example.com", "ada").replace("Europe/London", "nowhere"),
            orders=ORDERS.replace("42.50", "abc").replace("quantity: 2", "quantity: two"),
            **{"knowledge/returns.md": ""},
        )
        lines = [re.sub(r"^.*/s/", "", problem).partition(" ")[0] for problem in refused(folder)]
        assert lines == ["users.yaml:4:", "users.yaml:6:", "orders.yaml:4:", "orders.yaml:8:", "knowledge/returns.md:"]

    def test_a_hundred_problems_are_not_all_listed(self, tmp_path):
        problems = refused(write(tmp_path / "s", users="- {user_id: }\n" * 100))
        assert len(problems) == 22
        assert problems[-1] == "and 79 more"


VALUES = [
    *(
        "",
        "~",
        "[]",
        "{}",
        "[[]]",
        "- ",
        "yes",
        "0",
        "-1",
        "1.5",
        ".nan",
        "2024-13-45",
        "0x_",
        "1:99",
        "1e400",
        "9" * 5000,
    ),
    *('"\\ud800"', '"\\0"', "'", '"', "!!str [a]", "!!null [a]", "!!binary a", "!!python/object:os.system x", "!x y"),
    *(
        "&a *a",
        "*b",
        "&a b",
        "<<: *a",
        "|",
        ">-\n  folded",
        "? a",
        "a: b",
        "%YAML 9",
        "x" * 300,
        "\u2028",
        "# no",
        "{$gt: ''}",
    ),
]


def loads_or_is_refused(**files):
    """Load a folder that may be damaged: it is refused with a reason, or what it holds can be stored."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write(Path(temporary) / "s", **{"users": "[]", "orders": "[]"} | files)
        try:
            data = load_seeds(folder)
        except SeedError as error:
            f"{error.message} {error.why}".encode()
            return
        assert isinstance(data, SeedData)
        for profile in data.users:
            bson.encode({"fields": [profile.scope.user_id, profile.name, profile.email, profile.timezone]})
        for owner, order in data.orders:
            items = [[item.name, item.quantity] for item in order.items]
            bson.encode({"fields": [owner.tenant_id, order.order_id, order.total, order.status, items]})
        for _, passage in data.passages:
            bson.encode({"fields": [passage.source, passage.title, passage.content]})


class TestDamage:
    @given(st.data(), st.sampled_from(["users", "orders"]))
    def test_one_wrong_character_is_no_crash(self, data, part):
        text = {"users": USERS, "orders": ORDERS}[part]
        place = data.draw(st.integers(0, len(text) - 1))
        replacement = data.draw(st.sampled_from(["", *"-:,[]{}&*!|>%@`\"'#?~\t\n\r\x00\x85\ufeff"]) | st.characters())
        length = data.draw(st.integers(0, 1))
        damaged = text[:place] + replacement + text[place + length :]
        loads_or_is_refused(**{part: damaged.encode("utf-8", "surrogatepass")})

    @given(st.data(), st.sampled_from(["users", "orders"]))
    def test_one_wrong_field_is_no_crash(self, data, part):
        lines = {"users": USERS, "orders": ORDERS}[part].splitlines()
        place = data.draw(st.integers(0, len(lines) - 1))
        name, colon, _ = lines[place].partition(": ")
        value = data.draw(st.sampled_from(VALUES) | st.text(max_size=20))
        kinds = [[], [lines[place]] * 2, [value], [name + colon + value], [f"{lines[place][:4]}{value}: x"]]
        lines[place : place + 1] = data.draw(st.sampled_from(kinds))
        loads_or_is_refused(**{part: "\n".join(lines).encode("utf-8", "surrogatepass")})

    @given(st.binary(max_size=60))
    def test_any_bytes_for_knowledge_are_no_crash(self, data):
        loads_or_is_refused(**{"knowledge/returns.md": data})


class TestWhereTheSampleDataIs:
    def test_in_a_checkout_it_lies_beside_the_package(self):
        assert default_seed_folder() == ROOT / "seeds"

    def test_when_installed_it_lies_inside_the_package(self, tmp_path):
        site = tmp_path / "site-packages"
        shutil.copytree(ROOT / "lkmongo", site / "lkmongo", ignore=shutil.ignore_patterns("__pycache__"))
        code = f"""\
import sys
sys.path.insert(0, {str(site)!r})
from lkmongo.store.seed.seeds import default_seed_folder
print(default_seed_folder())
"""
        ask = [sys.executable, "-Bc", code]
        without = subprocess.run(ask, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert "SeedError: the sample data is not part of this installation" in without.stderr
        shutil.copytree(ROOT / "seeds", site / "lkmongo" / "_seeds")
        found = subprocess.run(ask, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert Path(found.stdout.strip()) == site / "lkmongo" / "_seeds"
