"""The golden vectors of feeds: what docs/formats/vectors/feed.json has.

python tests/feed_vectors.py --write    write them (only when the format is deliberately changed)
"""

import base64
import json
import sys
from pathlib import Path

from kachery_store.feeds import tiles
from kachery_store.feeds.batch import make_batch
from kachery_store.feeds.entries import (
    blob_entry,
    final_entry,
    first_entry,
    message_entry,
    message_text,
)
from kachery_store.feeds.names import Place
from kachery_store.merkle import Frontier
from kachery_store.note import sign_note, verifier_key
from kachery_store.signing import Signer

FILE = Path(__file__).parent.parent / "docs/formats/vectors/feed.json"
SEED = bytes(range(32))
SIGNER = Signer(SEED)
PLACE = Place(SIGNER.public.hex(), "main")
TIME = 1700000000.5


def message(i, text="m"):
    return message_entry(message_text({"i": i, "text": text}), TIME)


def entries(count):
    return [first_entry(PLACE, TIME), *(message(i) for i in range(count - 1))]


def head(some, place=PLACE, signer=SIGNER, signed_as=None):
    frontier = Frontier()
    frontier.extend(tiles.leaf_hashes(some))
    text = place.head(frontier.size, frontier.root()).text()
    return sign_note(text, (signed_as or place).origin, signer.public, signer.sign)


def log_files(some, place=PLACE, signer=SIGNER):
    """The files of an integrated log."""
    files, _ = tiles.grow(tiles.NO_EDGE, some, tiles.leaf_hashes(some))
    return {"checkpoint": head(some, place, signer), **dict(files)}


def staged(before, new, signer=SIGNER):
    """The file of a batch after these entries."""
    frontier = Frontier()
    frontier.extend(tiles.leaf_hashes(before))
    data, _ = make_batch(PLACE, signer, frontier, new)
    return {f"staged/{len(before):016d}": data}


def _flipped(data, at=-1):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def vectors():
    """Each: what it is, the files, and either the entries or the error; `seen` is an earlier head."""
    five, other = entries(5), [*entries(4), message(3, "another")]
    good = log_files(five)
    last = "tile/entries/000.p/5"
    elsewhere = Place(PLACE.feed, "elsewhere")
    stranger = Signer(bytes(32))
    theirs = [first_entry(elsewhere, TIME), *five[1:]]
    large = blob_entry(b'{"x":"%b"}' % (b"y" * 60_000), TIME)[0]
    cases = [
        ("an integrated log", good, None, five),
        ("a staged batch", staged([], five), None, five),
        ("both", {**good, **staged(five, [message(5)])}, None, [*five, message(5)]),
        ("a batch that was left behind", {**good, **staged([], entries(2))}, None, five),
        ("a large message and the end", log_files([five[0], large, final_entry(TIME)]), None, 3),
        ("an earlier head", good, head(five[:3]), five),
        ("flipped byte in an entry", {**good, last: _flipped(good[last], 40)}, None, "FeedDamaged"),
        (
            "flipped byte in the signature",
            {**good, "checkpoint": _flipped(good["checkpoint"], -9)},
            None,
            "FeedDamaged",
        ),
        (
            "flipped byte in the root",
            {**good, "checkpoint": _flipped(good["checkpoint"], 90)},
            None,
            "FeedDamaged",
        ),
        (
            "flipped byte in a staged batch",
            {n: _flipped(d) for n, d in staged([], five).items()},
            None,
            "FeedDamaged",
        ),
        (
            "a size that is not signed",
            {**good, "checkpoint": good["checkpoint"].replace(b"\n5\n", b"\n6\n")},
            None,
            "FeedDamaged",
        ),
        ("rollback", log_files(five[:3]), head(five), "FeedRolledBack"),
        ("rollback to nothing", {}, head(five), "FeedRolledBack"),
        ("fork", log_files(other), head(five), "FeedForked"),
        ("fork, longer", log_files([*other, message(5)]), head(five), "FeedForked"),
        ("splice of another subfeed", log_files(theirs, elsewhere), None, "FeedDamaged"),
        (
            "a batch of another history",
            {**good, **staged(other, [message(5)])},
            None,
            "FeedDamaged",
        ),
        ("entry zero of another subfeed", log_files(theirs), None, "FeedDamaged"),
        ("truncation of a bundle", {**good, last: good[last][:-3]}, None, "FeedDamaged"),
        (
            "a bundle without its last entry",
            {**good, last: tiles.bundle(five[:4])},
            None,
            "FeedDamaged",
        ),
        ("a missing bundle", {n: d for n, d in good.items() if n != last}, None, "FeedDamaged"),
        ("wrong origin", {**good, "checkpoint": head(five, elsewhere)}, None, "FeedDamaged"),
        (
            "wrong origin under the right name",
            {**good, "checkpoint": head(five, elsewhere, signed_as=PLACE)},
            None,
            "FeedDamaged",
        ),
        ("another key", {**good, "checkpoint": head(five, PLACE, stranger)}, None, "FeedDamaged"),
        (
            "a later format",
            log_files([five[0].replace(b"feed 1", b"feed 9"), *five[1:]]),
            None,
            "StoreTooNew",
        ),
    ]
    found = []
    for name, files, seen, outcome in cases:
        found.append(
            {
                "case": name,
                "files": {
                    path: base64.b64encode(data).decode() for path, data in sorted(files.items())
                },
                **({"seen": seen.decode()} if seen else {}),
                **(
                    {"error": outcome}
                    if isinstance(outcome, str)
                    else {"entries": outcome if isinstance(outcome, int) else len(outcome)}
                ),
            }
        )
    return {
        "seed": SEED.hex(),
        "feed": PLACE.feed,
        "subfeed": PLACE.subfeed,
        "verifier_key": verifier_key(PLACE.origin, SIGNER.public),
        "cases": found,
    }


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
    print("same" if json.loads(FILE.read_text()) == vectors() else "different")
