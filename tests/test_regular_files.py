"""Only regular files are read, and none behind a symbolic link that nobody asked to follow."""

from __future__ import annotations

import os
import socket

import pytest

from lkmongo import regular_files
from lkmongo.errors import UsageError
from lkmongo.regular_files import NotRegularError, open_regular, refuse_link, walk


def refuse(path, error):
    raise AssertionError(f"{path}: {error}")


def seen(folder, **options):
    return {
        str(entry.path.relative_to(folder)): entry.obstacle
        for entry in walk(folder, refuse, **options)
        if entry.path != folder
    }


@pytest.fixture
def tree(tmp_path):
    """A folder with a file, beside another with a secret."""
    (tmp_path / "docs" / "inner").mkdir(parents=True)
    (tmp_path / "docs" / "inner" / "a.md").write_text("A")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.md").write_text("secret")
    return tmp_path / "docs"


def test_a_link_is_opened_only_if_it_is_to_be_followed(tree):
    link = tree / "faq.md"
    link.symlink_to("../other/secret.md")
    for below in (None, tree):
        with pytest.raises(NotRegularError, match="symbolic link"):
            open_regular(link, below=below)
    with open_regular(link, follow_links=True, below=tree) as file:
        assert file.read() == b"secret"


def test_no_folder_on_the_way_may_be_a_link(tree):
    path = tree / "inner" / "secret.md"
    (tree / "inner" / "a.md").unlink()
    (tree / "inner").rmdir()
    (tree / "inner").symlink_to("../other")
    with pytest.raises(NotRegularError, match="symbolic link"):
        open_regular(path, below=tree)
    with open_regular(path, follow_links=True, below=tree) as file:
        assert file.read() == b"secret"


def test_what_is_swapped_for_a_link_after_it_was_found_is_not_followed(tree):
    (entry,) = walk(tree, refuse)
    entry.path.unlink()
    entry.path.symlink_to("../../other/secret.md")
    with pytest.raises(NotRegularError, match="symbolic link"):
        open_regular(entry.path, below=tree)


@pytest.mark.parametrize("follow_links", [False, True])
def test_pipes_sockets_and_devices_are_never_read_nor_waited_for(tmp_path, monkeypatch, follow_links):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    os.mkfifo("pipe.md")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.md")
    for name in ("pipe", "socket", "device"):
        (tmp_path / f"{name}-link.md").symlink_to("/dev/zero" if name == "device" else f"{name}.md")
    with listener:
        for path in tmp_path.iterdir():
            with pytest.raises(NotRegularError):
                open_regular(path, follow_links=follow_links)
        assert None not in seen(tmp_path, follow_links=follow_links).values()


def test_a_folder_is_not_a_file(tree):
    with pytest.raises(IsADirectoryError):
        open_regular(tree)


def test_links_are_told_apart_when_they_are_not_followed(tree):
    (tree / "faq.md").symlink_to("../other/secret.md")
    (tree / "more").symlink_to("../other")
    assert seen(tree) == {"inner/a.md": None, "faq.md": regular_files.LINK, "more": regular_files.LINK}


def test_followed_links_lead_out_of_the_folder_and_never_in_circles(tree):
    for name, target in {"faq.md": "../other/secret.md", "more": "../other", "all": "..", "gone.md": "no"}.items():
        (tree / name).symlink_to(target)
    (tree / "inner" / "loop").symlink_to(tree)
    (tree / "self.md").symlink_to("self.md")
    found = seen(tree, follow_links=True)
    assert {name for name, obstacle in found.items() if obstacle is None} == {
        "inner/a.md",
        "faq.md",
        "all/other/secret.md",
    }
    assert {name: obstacle for name, obstacle in found.items() if obstacle} == {
        "gone.md": "a broken link",
        "self.md": "a broken link",
        "inner/loop": "a link to a folder that is read already",
        "all/docs": "a link to a folder that is read already",
        "more": "a link to a folder that is read already",
    }


def test_a_named_link_is_refused_with_what_it_points_to(tree):
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(UsageError, match="is a symbolic link") as caught:
        refuse_link(link, follow_links=False)
    assert str(tree.resolve()) in caught.value.hint
    refuse_link(link, follow_links=True)
    refuse_link(tree, follow_links=False)
