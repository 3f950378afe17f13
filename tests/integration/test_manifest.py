"""Any edit of any file changes the digest, and a copy is what was hashed or there is none."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chargehand.agents.infra import manifest, references
from chargehand.agents.infra.copying import copy_tree, set_apart, share
from chargehand.agents.infra.manifest import Tree, UnfitContent, differences
from chargehand.domain.errors import ContentChanged

names = st.text("ab.\n ü", min_size=1, max_size=3).filter(
    lambda name: name not in (".", "..") and not manifest._IGNORED_FILES.fullmatch(name)
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.binary(max_size=4), min_size=1, max_size=6)
EDITS = ("flip a byte", "append", "delete", "rename", "add", "executable", "link", "replace", "empty folder", "move")
slow = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def tree(files: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        for name, content in files.items():
            if (
                not any((root / part).is_file() for part in [*Path(name).parents, Path(name)])
                and not (root / name).is_dir()
            ):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
        yield root


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def edit(root: Path, path: Path, how: str) -> None:
    """Edit one file as unsuspiciously as can be: as long and as old as before, where that is possible."""
    content, status = path.read_bytes(), path.stat()
    if how == "flip a byte":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if content else b"x")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "append":
        path.write_bytes(content + b"\n")
    elif how == "delete":
        path.unlink()
    elif how == "rename":
        path.rename(path.with_name(path.name + "2"))
    elif how == "add":
        (root / "new").write_bytes(b"")
    elif how == "executable":
        path.chmod(0o755)
    elif how == "link":
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")
    elif how == "replace":
        other = root / "other"
        other.write_bytes(bytes(len(content)) if content.strip(b"\0") else b"x" * (len(content) or 1))
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.rename(path)
    elif how == "empty folder":
        (root / "folder").mkdir()
    else:
        (root / "deep").mkdir()
        path.rename(root / "deep" / path.name)


@slow
@given(trees, st.data())
def test_any_edit_of_any_file_changes_the_digest(files: Mapping[str, bytes], data: st.DataObject) -> None:
    with tree(files) as root:
        reader = Tree(root)
        before = reader.read()
        assert reader.read().digest == before.digest
        edit(root, data.draw(st.sampled_from(files_of(root))), data.draw(st.sampled_from(EDITS)))
        after = reader.read()
        assert after.digest != before.digest
        assert differences(before.entries, after.entries)
        assert Tree(root).read().digest == after.digest, "what is remembered is what is there"


@slow
@given(trees, st.data())
def test_a_copy_is_what_was_hashed_or_there_is_none(files: Mapping[str, bytes], data: st.DataObject) -> None:
    with tree(files) as root:
        approved = Tree(root).read()
        copy = root.parent / "copy"
        how = data.draw(st.sampled_from(("nothing", *EDITS)))
        if how != "nothing":
            edit(root, data.draw(st.sampled_from(files_of(root))), how)
        refused = refusal(root, approved.entries, copy)
        if refused is None:
            assert Tree(copy).read().digest == approved.digest
        else:
            assert how != "nothing"
            assert any(f"{name} was " in refused for name in approved.entries)


def refusal(root: Path, entries: Mapping[str, str], copy: Path) -> str | None:
    try:
        copy_tree(root, entries, copy)
    except ContentChanged as error:
        return str(error)
    return None


@slow
@given(trees, trees)
def test_two_trees_with_one_digest_are_the_same(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> None:
    with tree(one) as first, tree(other) as second:
        held = [
            {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
            for root in (first, second)
        ]
        assert (Tree(first).read().digest == Tree(second).read().digest) == (held[0] == held[1])


def test_a_file_is_read_again_only_when_its_stamp_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SETTLED", 0)
    seen: list[str] = []
    reader = Tree(tmp_path, look=lambda name, _: (seen.append(name) or name,))  # type: ignore[func-returns-value]
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / "a", ns=(1, 1))
    assert reader.read().mentions == {"a": ("a",), "b": ("b",)}
    assert reader.read().mentions == {"a": ("a",), "b": ("b",)}, "what was noted stays known"
    (tmp_path / "a").write_text("c")
    reader.read()
    assert sorted(seen) == ["a", "a", "b"]


def test_what_was_just_written_is_not_trusted_to_be_known(tmp_path: Path) -> None:
    """Two edits within a tick of the file system's clock have one time."""
    reader, file = Tree(tmp_path), tmp_path / "a"
    digests = set()
    for number in range(200):
        file.write_text(f"{number:03}")
        digests.add(reader.read().digest)
    assert len(digests) == 200


def test_links_within_the_tree_lead_to_the_same_in_a_copy(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_text("x")
    (root / "a" / "absolute").symlink_to(root / "a" / "file")
    (root / "folder").symlink_to("a")
    copy_tree(root, Tree(root).read().entries, copy)
    assert (copy / "a" / "absolute").readlink() == Path("file")
    shutil.rmtree(root)
    assert (copy / "folder" / "absolute").read_text() == "x"


def test_a_copy_keeps_modes_and_times_and_shares_what_may_be_written(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    (root / "certs").mkdir(parents=True)
    (root / "certs" / "one").write_text("1")
    (root / "tool").write_text("x" * (2 << 20))  # large enough to be cloned where that is possible
    (root / "tool").chmod(0o750)
    os.utime(root / "tool", ns=(5, 7))
    shared = ("certs", "log/new")
    copy_tree(root, Tree(root).read().without(shared), copy)
    share(root, copy, shared)
    status = (copy / "tool").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o750, 7)
    (copy / "certs" / "two").write_text("2")
    (copy / "log" / "new" / "line").write_text("3")
    assert (root / "certs" / "two").read_text() + (root / "log" / "new" / "line").read_text() == "23"
    shutil.rmtree(copy)
    assert (root / "certs" / "one").read_text() == "1"


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_a_copy_costs_no_more_than_copying_and_hashing_and_a_warm_look_far_less(tmp_path: Path) -> None:
    """Ratios, because machines differ: the figures of one are in docs/decisions/0020."""
    in_memory = Path("/dev/shm")  # no disk between the two
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else tmp_path) as made:
        root, copy, plain = (Path(made) / name for name in ("root", "copy", "plain"))
        for number in range(1_500):
            (root / f"{number % 30}").mkdir(parents=True, exist_ok=True)
            (root / f"{number % 30}" / f"{number}.yml").write_bytes(os.urandom(1_300))
            os.utime(root / f"{number % 30}" / f"{number}.yml", ns=(1, 1))
        time.sleep(manifest.SETTLED / 1e9 + 0.1)
        reader = Tree(root)
        approved = reader.read()

        def plainly() -> None:
            shutil.copytree(root, plain)
            for path in root.rglob("*.yml"):
                hashlib.sha256(path.read_bytes()).hexdigest()

        copied, looked, both = [], [], []
        for _ in range(4):
            looked.append(cpu_seconds(lambda: reader.read().digest))
            copied.append(cpu_seconds(lambda: copy_tree(root, approved.entries, copy)))
            both.append(cpu_seconds(plainly))
            shutil.rmtree(copy)
            shutil.rmtree(plain)
        print(f"copied {min(copied):.3f} s, looked {min(looked):.3f} s, plainly {min(both):.3f} s")
        assert min(copied) < 0.5 * min(both)
        assert min(looked) < 0.15 * min(both)


def test_what_a_program_changes_in_memory_is_not_copied_as_what_was_approved(tmp_path: Path) -> None:
    """A file that is mapped keeps its times while it changes, on some file systems: only its bytes say what it is."""
    root = tmp_path / "root"
    root.mkdir()
    file = root / "a"
    file.write_bytes(b"good" * 2_000)
    os.utime(file, ns=(1, 1))
    time.sleep(manifest.SETTLED / 1e9 + 0.1)
    reader = Tree(root)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[4:8] = b"good"  # from now on the page is known to be changed
        approved = reader.read()
        mapped[0:4] = b"evil"
        os.utime(file, ns=(1, 1))
        with pytest.raises(ContentChanged, match="a was changed"):
            copy_tree(root, approved.entries, tmp_path / "copy")


def test_a_folder_that_is_set_apart_holds_copies_like_any_other(tmp_path: Path) -> None:
    set_apart(tmp_path)
    set_apart(tmp_path / "nothing")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("x")
    copy_tree(tmp_path / "root", {"a": Tree(tmp_path / "root").read().entries["a"]}, tmp_path / "copy")
    assert (tmp_path / "copy" / "a").read_text() == "x"


def test_what_cannot_be_vouched_for_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}").mkdir()
    with pytest.raises(UnfitContent, match="more than 3 files"):
        Tree(tmp_path).read()
    with pytest.raises(UnfitContent, match="own files"):
        Tree(tmp_path, excluded=tmp_path / "3").read()


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("x")
    assert list(Tree(tmp_path).read().entries) == ["file"]


@pytest.mark.parametrize(
    "text",
    [
        "../",
        "a" * 99 + " ",
        "\n",
        " ",
        "script: ",
        "roles: [a, ",
        "src=",
        "/a",
        "- x:\n",
        "a/",
        "roles: [/a, ",
        "script: x src: ",
        "\tscript:\n",
        "script: cmd=/a\n",
        "é../",
    ],
)
def test_no_file_keeps_the_search_for_paths_busy(text: str) -> None:
    content = (text * (manifest.LOOKED_AT // len(text))).encode()
    began = time.process_time()
    references.look(Path("/srv/project"), "tasks/main.yml", content + b"/")
    assert time.process_time() - began < 2  # a tenth of that on a machine at rest
