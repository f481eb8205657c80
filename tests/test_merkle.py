"""Trees, tiles and notes: against naive implementations, and against what must be refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kachery_store import merkle, note, signing
from kachery_store.errors import BadKey, BadNote, FeedDamaged, NotFound
from kachery_store.feeds import tiles

SIGNER = None


def signer():
    return signing.Signer(bytes(range(32)))


def naive_root(entries):
    """RFC 6962, section 2.1, word by word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def hash_of(entries):
    return lambda level, index: naive_root(entries[index << level : (index + 1) << level])


def leaves(n):
    return [b"%d" % i for i in range(n)]


def test_known_roots():
    """The test vectors that Certificate Transparency implementations share."""
    entries = [
        bytes.fromhex(text)
        for text in (
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        )
    ]
    frontier = merkle.Frontier()
    frontier.extend(merkle.leaf_hash(entry) for entry in entries)
    assert (
        frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@given(st.lists(st.binary(max_size=5), max_size=70))
def test_frontier_is_the_naive_tree(entries):
    frontier = merkle.Frontier()
    for size, entry in enumerate(entries):
        assert frontier.root() == naive_root(entries[:size])
        frontier.extend([merkle.leaf_hash(entry)])
    assert frontier.root() == naive_root(entries) and frontier.size == len(entries)


@given(st.integers(1, 40), st.data())
def test_inclusion(size, data):
    entries = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, hash_of(entries))
    leaf = merkle.leaf_hash(entries[index])
    assert merkle.root_of_inclusion(index, size, leaf, proof) == naive_root(entries)
    assert merkle.root_of_inclusion(index, size, b"x" * 32, proof) != naive_root(entries)
    for wrong in (proof[:-1], [*proof, b"y" * 32]):
        if len(wrong) != len(proof):
            with pytest.raises(ValueError, match="too"):
                merkle.root_of_inclusion(index, size, leaf, wrong)


@given(st.integers(1, 40), st.data())
def test_consistency(new, data):
    entries = leaves(new)
    old = data.draw(st.integers(1, new))
    old_root, new_root = naive_root(entries[:old]), naive_root(entries)
    proof = merkle.consistency_proof(old, new, hash_of(entries))
    assert merkle.is_consistent(old, old_root, new, new_root, proof)
    other = naive_root([b"other", *entries[1:old]])
    assert not merkle.is_consistent(old, other, new, new_root, proof)
    assert not merkle.is_consistent(old, old_root, new, other, proof)
    assert not merkle.is_consistent(old, old_root, new, new_root, [*proof, b"z" * 32])
    if proof:
        assert not merkle.is_consistent(old, old_root, new, new_root, proof[:-1])
        assert not merkle.is_consistent(old, old_root, new, new_root, [b"z" * 32, *proof[1:]])


@given(st.integers(0, 300), st.data())
def test_subtrees_cover(end, data):
    start = data.draw(st.integers(0, end))
    covered = []
    for level, index in merkle.subtrees(start, end):
        covered += range(index << level, (index + 1) << level)
    assert covered == list(range(start, end))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_tiles_do_not_depend_on_the_steps(steps):
    """However a log grew, its full files are the same, and its edge is that of its size."""
    total = sum(steps)
    entries = leaves(total)
    hashes = tiles.leaf_hashes(entries)
    at_once, edge = tiles.grow(tiles.NO_EDGE, entries, hashes)
    grown, written, at = tiles.NO_EDGE, {}, 0
    for step in steps:
        files, grown = tiles.grow(grown, entries[at : at + step], hashes[at : at + step])
        for name, data in files:
            assert written.setdefault(name, data) == data
        at += step
    assert grown == edge
    assert dict(at_once).items() <= written.items()
    assert edge.frontier().root() == naive_root(entries) and edge.frontier().size == total
    widths = {name: width for _, name, width in tiles.partial_files(total)}
    partial = {
        name: len(data) // 32 for name, data in at_once if ".p/" in name and "entries" not in name
    }
    assert widths == partial
    for index in range((total + 255) // 256):
        width = min(256, total - 256 * index)
        name = tiles.entries_path(index, width)
        assert tiles.parse_bundle(written[name], name) == entries[256 * index : 256 * index + width]
        row = tiles.parse_tile(written[tiles.tile_path(0, index, width)], width, "tile")
        assert list(row) == hashes[256 * index : 256 * index + width]


def test_names_of_tiles():
    """As in the examples of C2SP tlog-tiles."""
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(1, 273, 112) == "tile/1/273.p/112"
    assert tiles.entries_path(1000) == "tile/entries/x001/000"
    assert [name for _, name, _ in tiles.partial_files(70_000)] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles(entries):
    data = tiles.bundle(entries)
    assert tiles.parse_bundle(data, "b") == entries
    if data:
        with pytest.raises(FeedDamaged, match="cut short"):
            tiles.parse_bundle(data + b"\0", "b")


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)


@given(names, st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_checkpoints_come_back(origin, size, root):
    s = signer()
    head = note.Checkpoint(origin, size, root)
    data = note.sign_note(head.text(), origin, s.public, s.sign)
    assert note.parse_checkpoint(note.open_note(data, origin, s.public, signing.verify)) == head


@given(st.data())
def test_a_changed_note_is_refused(data):
    """Every changed bit, and every cut."""
    s = signer()
    text = note.Checkpoint("log", 5, b"r" * 32).text()
    signed = note.sign_note(text, "log", s.public, s.sign)
    bit = data.draw(st.integers(0, 8 * len(signed) - 1))
    changed = bytearray(signed)
    changed[bit // 8] ^= 1 << bit % 8
    cut = signed[: data.draw(st.integers(0, len(signed) - 1))]
    for wrong in (bytes(changed), cut):
        with pytest.raises(BadNote):
            note.open_note(wrong, "log", s.public, signing.verify)


def test_what_a_note_is_not():
    s = signer()
    signed = note.sign_note("log\n5\ntext\n", "log", s.public, s.sign)
    body, line = signed.split(b"\n\n")
    for wrong in (
        b"\xff" + signed,
        b"x" * 20_000,
        body + b"\n\n",
        body + b"\n" + line,
        body + b"\n\n" + line + line,
        body + b"\n\n" + line.replace("\N{EM DASH}".encode(), b"-"),
        body + b"\r\n\n" + line,
        body + b"\n\n" + line * 20,
        body + b"\n\n" + line.replace(b"log ", b"lo+g "),
    ):
        with pytest.raises(BadNote):
            note.open_note(wrong, "log", s.public, signing.verify)
    with pytest.raises(BadNote, match="not signed as other"):
        note.open_note(signed, "other", s.public, signing.verify)
    other = signing.Signer(b"o" * 32)
    with pytest.raises(BadNote, match="not signed as log by key"):
        note.open_note(signed, "log", other.public, signing.verify)
    two = note.sign_note("log\n5\ntext\n", "witness", other.public, other.sign).split(b"\n\n")[1]
    assert note.open_note(signed + two, "log", s.public, signing.verify) == "log\n5\ntext\n"
    for text in (
        "",
        "log\n5\n",
        "log\n05\nAAAA\n",
        "log\n-1\nAAAA\n",
        "log\n5\nAAAA\n",
        "log\n5\n!\n",
    ):
        with pytest.raises(BadNote):
            note.parse_checkpoint(text)
    for text, name in (
        ("no newline", "log"),
        ("a\n", "with space"),
        ("a\n", "a+b"),
        ("\t\n", "log"),
    ):
        with pytest.raises(ValueError, match="no note"):
            note.sign_note(text, name, s.public, s.sign)


def test_the_verifier_key_of_the_signed_note_document():
    """Its example: the key number is made from the name and the key."""
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    import base64

    public = base64.b64decode(key.rpartition("+")[2])[1:]
    assert note.verifier_key("PeterNeumann", public) == key
    signed = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    ).encode()
    assert note.open_note(signed, "PeterNeumann", public, signing.verify).startswith("If you think")


def test_private_files(tmp_path):
    path = str(tmp_path / "user/keys/k.json")
    assert signing.write_private(path, {"private": "11" * 32})
    assert not signing.write_private(path, {"private": "22" * 32})
    assert signing.read_private(path) == {"private": "11" * 32}
    assert (tmp_path / "user/keys/k.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "user/keys").stat().st_mode & 0o777 == 0o700
    assert [p.name for p in (tmp_path / "user/keys").iterdir()] == ["k.json"]
    (tmp_path / "user/keys/k.json").chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        signing.read_private(path)
    with pytest.raises(NotFound):
        signing.read_private(path + "x")
    with pytest.raises(BadKey, match="64 digits"):
        signing.signer_from("no", path)
    (tmp_path / "link.json").symlink_to(path)
    with pytest.raises(OSError, match="link"):
        signing.read_private(str(tmp_path / "link.json"))
