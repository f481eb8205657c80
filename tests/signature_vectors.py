"""Writes docs/formats/vectors/signature.json: signed files, and such as a reader must refuse."""

import json
from pathlib import Path

import msgpack

from kachery_store.identity import Certificate, Identity, _delegation
from kachery_store.signing import Signer
from kachery_tasks.sealed import seal, signed

PATH = Path(__file__).parent.parent / "docs/formats/vectors/signature.json"

ADA, BOB, WORKER = (Signer(bytes([n]) * 32) for n in (1, 2, 3))
UNTIL = 1_800_000_000
FILE = seal("kachery record", 1, msgpack.packb(["ab" * 32, "task", "golden:f"]))


def delegated(until=UNTIL, by=ADA):
    certificate = Certificate(WORKER.public, until, by.sign(_delegation(WORKER.public, until)))
    return Identity(WORKER, ADA.public, certificate)


def with_signatures(*entries, extra=()):
    return msgpack.packb([*msgpack.unpackb(FILE)[:4], list(entries), *extra])


def entry(data):
    return msgpack.unpackb(data)[4][0]


BY_ADA, BY_BOB, BY_WORKER = (
    signed(FILE, one) for one in (Identity(ADA), Identity(BOB), delegated())
)


def good():
    own = {"key": ADA.public.hex(), "until": None}
    yield "no signature", FILE, []
    yield "one signature", BY_ADA, [own]
    yield "by a worker in the place of a key", BY_WORKER, [{**own, "until": UNTIL}]
    both = with_signatures(entry(BY_ADA), entry(BY_BOB))
    yield "two signatures", both, [own, {"key": BOB.public.hex(), "until": None}]


def bad():
    ada = entry(BY_ADA)
    other = seal("kachery record", 1, msgpack.packb(["cd" * 32, "task", "golden:f"]))
    worker = entry(BY_WORKER)
    later = [worker[2][0], UNTIL + 1, worker[2][2]]
    yield "the signature of another file", msgpack.packb([*msgpack.unpackb(other)[:4], [ada]])
    yield "a signature with a flipped bit", with_signatures([ada[0], _flipped(ada[1]), *ada[2:]])
    yield "another key than that which signed", with_signatures([BOB.public, *ada[1:]])
    yield "one key twice", with_signatures(ada, ada)
    yield "one that fits and one that does not", with_signatures(ada, [BOB.public, *ada[1:]])
    yield "a worker without a certificate", with_signatures([ada[0], worker[1], None, ada[3]])
    yield "a certificate of another key", signed(FILE, delegated(by=BOB))
    yield "a certificate that was prolonged", with_signatures([*worker[:2], later, worker[3]])
    yield "another scheme", with_signatures([*ada[:3], "rsa"])
    yield "a short key", with_signatures([ada[0][:31], *ada[1:]])
    yield "an item too many", with_signatures(ada, extra=["x"])
    yield "nine signatures", with_signatures(*[ada] * 9)
    yield "not the shortest form", BY_ADA.replace(b"\xa7ed25519", b"\xd9\x07ed25519")


def _flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


def vectors():
    accepted = [{"what": w, "file": data.hex(), "signers": s} for w, data, s in good()]
    return accepted + [{"what": what, "file": data.hex(), "error": True} for what, data in bad()]


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
