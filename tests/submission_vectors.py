"""The golden vectors of submissions: what docs/formats/vectors/submission.json has.

python tests/submission_vectors.py --write    write them (only when the format is deliberately changed)
"""

import base64
import json
import sys
from pathlib import Path

from feed_vectors import PLACE, TIME

from kachery_store.digest import hash_buffer
from kachery_store.feeds.entries import blob_entry, message_entry, message_text
from kachery_store.feeds.names import Place
from kachery_store.feeds.source import Source
from kachery_store.feeds.submission import MOST_FILE, Name, make_submission
from kachery_store.identity import Certificate, Identity
from kachery_store.signing import Signer

FILE = Path(__file__).parent.parent / "docs/formats/vectors/submission.json"
SEED = bytes(range(32, 64))
WRITER = Identity(Signer(SEED))
SENT = 1700000000_500000
SUBMISSION = "00112233445566778899aabbccddeeff"
MESSAGES = [{"i": 0, "text": "ü"}, {"i": 1, "deep": [None, 1.5]}]
TEXTS = [message_text(message) for message in MESSAGES]
UNTIL = 1700000000


def made(place=PLACE, identity=WRITER, texts=TEXTS, sent=SENT):
    """A submission: the name of its file, and the file."""
    name, data = make_submission(place, identity, texts, sent, SUBMISSION)
    return name.file(PLACE), data


def delegated(until=UNTIL, by=WRITER):
    """An identity that signs in the place of the writer's."""
    signer = Signer(bytes(range(64, 96)))
    text = f"kachery delegation 1\n{signer.public.hex()}\n{until}\n".encode()
    return Identity(signer, WRITER.public, Certificate(signer.public, until, by.sign(text)))


def lines_of(data):
    return data.split(b"\n")[:-1]


def file_of(lines):
    return b"\n".join([*lines, b""])


def header(data, **changes):
    """The file with another header."""
    first, *rest = lines_of(data)
    told = {**json.loads(first), **changes}
    return file_of([json.dumps(told, separators=(",", ":")).encode(), *rest])


def signed(texts, total=None):
    """Lines by the writer, whatever they say."""
    count = len(texts) if total is None else total
    for number, text in enumerate(texts):
        source = Source(WRITER.public.hex(), SUBMISSION, number, count, SENT)
        signature = WRITER.sign(source.text(PLACE, hash_buffer("blake3", text)))
        yield signature.hex().encode() + b" " + text


def cases():
    """Each: what it is, the name and the bytes of the file, and the messages, or None: refused."""
    name, good = made()
    first, one, two = lines_of(good)
    other_name = Name("ab" * 32, SENT, SUBMISSION).file(PLACE)

    def with_texts(*texts):
        return header(file_of([first, *signed(texts)]), total=len(texts))

    return [
        ("two messages", name, good, MESSAGES),
        ("by a delegated key", *made(identity=delegated()), MESSAGES),
        ("a delegation that had ended", *made(identity=delegated(UNTIL - 3600)), None),
        (
            "a delegation by somebody else",
            *made(identity=delegated(by=Signer(bytes(32)))),
            None,
        ),
        ("another feed", name, made(Place("ab" * 32, "main"))[1], None),
        ("another subfeed", name, made(Place(PLACE.feed, "other"))[1], None),
        (
            "another subfeed, the header changed",
            name,
            header(made(Place(PLACE.feed, "other"))[1], subfeed="main"),
            None,
        ),
        ("another writer's name", other_name, good, None),
        ("another writer's key", other_name, header(good, writer="ab" * 32), None),
        ("another writer in the header", name, header(good, writer="ab" * 32), None),
        ("another time", name.replace("500000-", "500001-"), header(good, sent=SENT + 1), None),
        ("the second message alone", name, header(file_of([first, two]), total=1), None),
        ("the first message alone", name, header(file_of([first, one]), total=1), None),
        ("one message less than it says", name, file_of([first, one]), None),
        ("one message more than it says", name, file_of([first, one, two, two]), None),
        ("another order", name, file_of([first, two, one]), None),
        ("cut short", name, good[:-5], None),
        ("another message", name, good.replace(b'"i":1', b'"i":2'), None),
        ("no messages", name, header(file_of([first]), total=0), None),
        ("signed, but no JSON", name, with_texts(b"nonsense"), None),
        ("signed, but no object", name, with_texts(b"[1]"), None),
        ("signed, but a name occurs twice", name, with_texts(b'{"a":1,"a":2}'), None),
        ("signed, but with spaces", name, with_texts(b'{"a": 1}'), None),
        ("signed, but not a number", name, with_texts(b'{"a":NaN}'), None),
        ("signed, but too deep", name, with_texts(b'{"a":' + b"[" * 4999), None),
        ("a later format", name, header(good, format="kachery submission 2"), None),
        (
            "a name that occurs twice in the header",
            name,
            good.replace(b"{", b'{"sent":1,', 1),
            None,
        ),
        ("a header that is too long", name, header(good, more="x" * 2000), None),
        ("no header", name, file_of([b"[]", one, two]), None),
        ("nothing", name, b"", None),
        ("only newlines", name, b"\n" * 5000, None),
    ]


def entry_vectors():
    """Entries with sources: each with the writer, or None when it is not from whom it names."""
    source = Source(WRITER.public.hex(), SUBMISSION, 1, 2, SENT)

    def told(text, **changes):
        signature = WRITER.sign(source.text(PLACE, hash_buffer("blake3", text)))
        return source._replace(signature=signature.hex(), **changes)

    text, other = TEXTS[1], message_text({"instead": True})
    large = message_text({"x": "y" * 60_000})
    submitted = hash_buffer("blake3", text)
    return [
        ("a message", message_entry(text, TIME, told(text).json()), True),
        ("a large message", blob_entry(large, TIME, told(large).json())[0], True),
        (
            "another one than submitted",
            message_entry(other, TIME, told(text).json(submitted)),
            True,
        ),
        ("not what was signed", message_entry(other, TIME, told(text).json()), False),
        ("another number", message_entry(text, TIME, told(text, number=0).json()), False),
        ("another writer", message_entry(text, TIME, told(text, writer="ab" * 32).json()), False),
        ("no source", message_entry(text, TIME, b'{"writer":1}'), False),
    ]


def vectors():
    return {
        "seed": SEED.hex(),
        "writer": WRITER.public.hex(),
        "feed": PLACE.feed,
        "subfeed": PLACE.subfeed,
        "most_bytes": MOST_FILE,
        "submissions": [
            {
                "case": case,
                "name": name,
                "file": base64.b64encode(data).decode(),
                **({"refused": True} if messages is None else {"messages": messages}),
            }
            for case, name, data, messages in cases()
        ],
        "entries": [
            {"case": case, "entry": entry.decode(), "writer": WRITER.public.hex() if good else None}
            for case, entry, good in entry_vectors()
        ],
    }


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
    print("same" if json.loads(FILE.read_text()) == vectors() else "different")
