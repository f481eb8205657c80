"""What somebody who can write to a zone, or sends a file, may try.

Each attack is tried twice: on kachery as it is, where it must fail, and on a kachery that lacks the one check
that stops it, where it must succeed; else the first try would prove nothing.
"""

import io
import json
import os
import struct
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest

import kachery
import kachery_store.feeds.names
import kachery_store.files
import kachery_store.manifest
import kachery_store.mutables
import kachery_store.npy
import kachery_store.transfer
import kachery_tasks.lookup
import kachery_tasks.sealed
import kachery_tasks.trust
from kachery_store.digest import hash_buffer
from kachery_store.errors import KacheryError, NotFound
from kachery_store.feeds.names import place_of
from kachery_store.identity import Identity, own_identity
from kachery_store.manifest import Manifest
from kachery_store.signing import Signer
from kachery_tasks.record import MAGIC, VERSION, Record
from kachery_tasks.sealed import seal, signed
from kachery_tasks.settings import current
from kachery_tasks.trusted_keys import Trusted, distrust, trust

MALLORY = Identity(Signer(b"m" * 32))
KEY = MALLORY.public.hex()
NO_REFUSAL = (kachery_tasks.trust, "refusal", lambda *_, **__: None)


@kachery.task(version="1")
def right(x):
    return ["right", x]


@kachery.task(version="1")
def other(x):
    return ["other", x]


@kachery.task(version="1", opaque="return")
def pickled(x):
    return iter([x])


class Payload:
    """What a pickle can do when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


class Zone:
    """A folder as zone, the victim who reads from it, and the records that others have put there."""

    def __init__(self, tmp_path, monkeypatch):
        self.tmp_path = tmp_path
        self.folder = tmp_path / "lab"
        self.user = tmp_path / "victim"
        monkeypatch.setenv("KACHERY_USER_DIR", str(self.user))
        (tmp_path / "kachery.toml").write_text(
            f'[zones.lab]\nurl = "{self.folder}"\n[zones.other]\nurl = "{tmp_path}/other"\n'
        )
        monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))

    @contextmanager
    def works(self, name="victim", zone="lab"):
        with kachery.using(dir=self.tmp_path / f"store-{name}", zone=zone):
            yield current().store

    def put(self, job_id, data, zone="lab"):
        path = self.tmp_path / zone / "jobs" / job_id[:2] / job_id
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(data)

    def put_blob(self, data):
        digest = hash_buffer("blake3", data)
        path = self.folder / "blake3" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return bytes.fromhex(digest)


@pytest.fixture
def zone(tmp_path, monkeypatch):
    return Zone(tmp_path, monkeypatch)


def record_in(data):
    """The record in a file, whosever it is."""
    return Record.of_this_store(data, msgpack.unpackb(msgpack.unpackb(data)[2])[0])


def made(function, x):
    """A job that the victim has not computed, and the record that an honest run of it gives."""
    with kachery.using(dir=Path(os.environ["KACHERY_USER_DIR"]).parent / "store-honest", zone=None):
        job = function.job(x)
        function(x)
        return job.id, current().store.jobs.read(job.id)


def wrong_answer(zone):
    """A record of right(1) that says something else, unsigned."""
    job_id, honest = made(right, 1)
    lie = record_in(made(other, 1)[1]).result
    return job_id, record_in(honest)._replace(result=lie).to_bytes()


def asked(zone, function=right, x=1, **options):
    """What the victim gets."""
    with zone.works(**options), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(x)


# Attacks: each gets a Zone, tries, and returns whether it has succeeded.


def lies_without_a_signature(zone):
    zone.put(*wrong_answer(zone))
    return asked(zone)[0] != "right"


def lies_with_an_unknown_key(zone):
    job_id, lie = wrong_answer(zone)
    zone.put(job_id, signed(lie, MALLORY))
    return asked(zone)[0] != "right"


def lies_with_the_victims_name_on_it(zone):
    """The entry names the victim's key; the signature is Mallory's."""
    job_id, lie = wrong_answer(zone)
    content = msgpack.unpackb(signed(lie, MALLORY))
    with zone.works():
        content[4][0][0] = own_identity().public
    zone.put(job_id, msgpack.packb(content))
    return asked(zone)[0] != "right"


def lies_beside_a_signature(zone):
    """A second signature, of the victim's key, that does not fit, beside one that does."""
    job_id, lie = wrong_answer(zone)
    content = msgpack.unpackb(signed(lie, MALLORY))
    with zone.works():
        content[4].append([own_identity().public, bytes(64), None, "ed25519"])
    zone.put(job_id, msgpack.packb(content))
    return asked(zone)[0] != "right"


def lies_with_a_certificate_of_its_own(zone):
    """A worker's key that nobody has delegated anything to."""
    job_id, lie = wrong_answer(zone)
    content = msgpack.unpackb(signed(lie, MALLORY))
    with zone.works():
        own = own_identity().public
    content[4][0] = [own, content[4][0][1], [MALLORY.public, 2**40, bytes(64)], "ed25519"]
    zone.put(job_id, msgpack.packb(content))
    return asked(zone)[0] != "right"


def changes_what_was_signed(zone):
    """The victim's own signed record, with another result in it."""
    with zone.works("victim-elsewhere"):
        right(1)
        job_id = right.job(1).id
        own = msgpack.unpackb((zone.folder / "jobs" / job_id[:2] / job_id).read_bytes())
    lie = msgpack.unpackb(wrong_answer(zone)[1])
    zone.put(job_id, msgpack.packb([*lie[:4], own[4]]))
    return asked(zone)[0] != "right"


def copies_a_record_to_another_job(zone):
    """The victim's own signed record of right(2), under the name of right(1)."""
    with zone.works("victim-elsewhere"):
        right(2)
        two = right.job(2).id
        data = (zone.folder / "jobs" / two[:2] / two).read_bytes()
    zone.put(right_one(zone), data)
    return asked(zone) != ["right", 1]


def right_one(zone):
    return made(right, 1)[0]


def copies_a_record_to_another_task(zone):
    """Who is trusted for one task says that the record of another one is of that."""
    with zone.works():
        trust(Trusted(KEY, task="*:other"))
    job_id, _ = made(right, 1)
    _, lie = made(other, 1)
    zone.put(job_id, signed(record_in(lie)._replace(job_id=job_id).to_bytes(), MALLORY))
    return asked(zone)[0] != "right"


def copies_a_record_to_another_zone(zone):
    with zone.works():
        trust(Trusted(KEY, zone="other"))
    job_id, lie = wrong_answer(zone)
    zone.put(job_id, signed(lie, MALLORY))
    return asked(zone)[0] != "right"


def _pickle(zone, identity):
    """A record of pickled(1) whose pickle does something, signed or not; where it does it."""
    job_id, honest = made(pickled, 1)
    done = zone.tmp_path / "executed"
    import cloudpickle

    data = cloudpickle.dumps(Payload(done))
    record = Record.of_this_store(honest, job_id)
    ((owner, number, _, _, _),) = record.result.pickles
    digest = zone.put_blob(data)
    made_of = [(owner, number, record.result.pickles[0][2], digest, len(data))]
    lie = record._replace(result=record.result._replace(pickles=made_of)).to_bytes()
    zone.put(job_id, lie if identity is None else signed(lie, identity))
    with suppress(Exception):
        asked(zone, pickled)
    return done.exists()


def pickles_without_a_signature(zone):
    return _pickle(zone, None)


def pickles_with_an_unknown_key(zone):
    return _pickle(zone, MALLORY)


def pickles_with_a_key_that_is_not_trusted_for_that(zone):
    with zone.works():
        trust(Trusted(KEY))
    return _pickle(zone, MALLORY)


def pickles_with_a_key_whose_time_is_over(zone):
    with zone.works():
        trust(Trusted(KEY, pickle=True, until=1.0))
    return _pickle(zone, MALLORY)


def pickles_with_a_key_for_another_task(zone):
    with zone.works():
        trust(Trusted(KEY, pickle=True, task="*:other"))
    return _pickle(zone, MALLORY)


def replays_after_revocation(zone):
    job_id, lie = wrong_answer(zone)
    zone.put(job_id, signed(lie, MALLORY))
    with zone.works():
        trust(Trusted(KEY))
        assert asked(zone)[0] != "right"  # trusted, so far
        distrust(KEY)
    zone.put(job_id, signed(lie, MALLORY))
    return asked(zone)[0] != "right"


def exchanges_a_blob(zone):
    """The record is the victim's own; the large array that it names is not what it was."""
    with zone.works("victim-elsewhere"):
        large(1)
    (blob,) = [p for p in (zone.folder / "blake3").rglob("*") if p.is_file() and _is_large(p)]
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    return not np.array_equal(asked(zone, large), np.arange(100_000.0) + 1)


def _is_large(path):
    return path.stat().st_size > 700_000


@kachery.task(version="1")
def large(x):
    return np.arange(100_000.0) + x


def _npy(zone, data):
    with zone.works(zone=None):
        uri = kachery.store_bytes(data)
        return kachery.load_npy(uri)


def hides_a_pickle_in_an_array(zone):
    done = zone.tmp_path / "executed"
    file = io.BytesIO()
    np.save(file, np.array([Payload(done)], dtype=object), allow_pickle=True)
    with suppress(KacheryError):
        _npy(zone, file.getvalue())
    return done.exists()


def sends_an_array_with_a_header_that_lies(zone):
    """Ten terabytes, it says: they are not to be allocated before anybody looks."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1250000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    file = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80)
    try:
        _npy(zone, file)
    except KacheryError:
        return False
    except MemoryError:
        return True
    return True


def sends_compressed_zeros_as_an_array(zone):
    file = io.BytesIO()
    np.savez_compressed(file, np.zeros(10_000_000))
    try:
        found = _npy(zone, file.getvalue())
    except KacheryError:
        return False
    return not isinstance(found, np.ndarray)


def says_two_things_in_one_manifest(zone):
    """One reader takes the first size, the other the second."""
    data = b'{"size":1,"sha1":"%s","size":2,"chunks":[]}' % (b"a" * 40)
    try:
        Manifest.from_bytes(data)
    except KacheryError as error:
        return "twice" not in str(error)
    return True


def leaves_the_store_through_a_subfeed(zone):
    with zone.works(zone=None) as store:
        try:
            place = place_of("ab" * 32, "../../../../victim/identity.json")
        except KacheryError:
            return False
        name = store.backend.path(place.file(""))
        return not os.path.realpath(name).startswith(os.path.realpath(store.root) + "/feeds/")


def leaves_the_store_through_a_feed(zone):
    with zone.works(zone=None):
        try:
            return not place_of("../" * 21 + "x", "main").feed.isalnum()
        except KacheryError:
            return False


def reads_the_private_key_as_a_mutable(zone):
    with zone.works(zone=None) as store:
        kachery.set_mutable_local("there", "so that the folder is")
        private = json.loads((_key_file(zone)).read_text())["private"]
        way = os.path.relpath(_key_file(zone), os.path.join(store.root, "mutables"))
        for name in (
            way,
            f"@{way}",
            str(_key_file(zone)),
            f"@{os.path.dirname(way)}/identity.json",
        ):
            with suppress(KacheryError, ValueError, OSError):
                if private in (kachery.get_mutable_local(name) or ""):
                    return True
    return False


def _key_file(zone):
    own_identity()
    return zone.user / "identity.json"


SIGNATURES_FIT = (kachery_tasks.sealed, "verify", lambda *_: True)


def _covers(**ignored):
    real = Trusted.covers

    def covers(self, task, zone, *, pickle):
        given = {"task": task, "zone": zone, "pickle": pickle, **ignored}
        if "until" in given:
            self = self._replace(until=given.pop("until"))
        return real(self, given["task"], given["zone"], pickle=given["pickle"])

    return Trusted, "covers", covers


class _Any:
    """A pattern that everything matches."""

    @staticmethod
    def fullmatch(text):
        return text


def _of_any_job(cls, data, job_id):
    """A reader that does not look whose record it is."""
    body = msgpack.unpackb(msgpack.unpackb(data)[2])
    body[0] = job_id
    return _of_this_store(cls, seal(MAGIC, VERSION, msgpack.packb(body)), job_id)


_of_this_store = Record.of_this_store.__func__

# The attack, and what is to be taken from kachery so that it succeeds.
ATTACKS = [
    (lies_without_a_signature, NO_REFUSAL),
    (lies_with_an_unknown_key, NO_REFUSAL),
    (lies_with_the_victims_name_on_it, SIGNATURES_FIT),
    (lies_beside_a_signature, SIGNATURES_FIT),
    (
        lies_with_a_certificate_of_its_own,
        (kachery_tasks.sealed.Certificate, "is_by", lambda *_: True),
    ),
    (changes_what_was_signed, SIGNATURES_FIT),
    (copies_a_record_to_another_job, (Record, "of_this_store", classmethod(_of_any_job))),
    (copies_a_record_to_another_task, "no look at the task"),
    (copies_a_record_to_another_zone, _covers(zone=None)),
    (pickles_without_a_signature, NO_REFUSAL),
    (pickles_with_an_unknown_key, NO_REFUSAL),
    (pickles_with_a_key_that_is_not_trusted_for_that, _covers(pickle=False)),
    (pickles_with_a_key_whose_time_is_over, _covers(until=None)),
    (pickles_with_a_key_for_another_task, _covers(task="test_attacks:other")),
    (replays_after_revocation, "revoking is forgotten"),
    (exchanges_a_blob, "any blob fits"),
    (hides_a_pickle_in_an_array, "arrays may have pickles"),
    (sends_an_array_with_a_header_that_lies, "headers are believed"),
    (sends_compressed_zeros_as_an_array, "headers are believed"),
    (says_two_things_in_one_manifest, (kachery_store.manifest, "read_json", json.loads)),
    (leaves_the_store_through_a_subfeed, (kachery_store.feeds.names, "_SUBFEED", _Any)),
    (leaves_the_store_through_a_feed, (kachery_store.feeds.names, "_ID", _Any)),
    (reads_the_private_key_as_a_mutable, "names of mutables are paths"),
]


def _weaken(monkeypatch, what):
    if isinstance(what, tuple):
        monkeypatch.setattr(*what)
    elif what == "no look at the task":
        real = kachery_tasks.trust.counts
        monkeypatch.setattr(kachery_tasks.lookup, "counts", lambda *given: real(*given[:3]))
    elif what == "revoking is forgotten":
        monkeypatch.setattr("test_attacks.distrust", lambda key: 1)
    elif what == "any blob fits":
        told = {}

        def trusting(algorithm, data):
            return told.get(len(data), hash_buffer(algorithm, data))

        told[800_000] = _address_of_large()
        monkeypatch.setattr(kachery_store.transfer, "hash_buffer", trusting)
        monkeypatch.setattr("kachery_store.blobs.hash_buffer", trusting, raising=False)
    elif what == "arrays may have pickles":
        monkeypatch.setattr(
            kachery_store.files, "load_array", lambda path: np.load(path, allow_pickle=True)
        )
    elif what == "headers are believed":
        monkeypatch.setattr(kachery_store.files, "load_array", np.load)
    elif what == "names of mutables are paths":
        monkeypatch.setattr(kachery_store.mutables, "_text_name", lambda key: f"mutables/{key}")
        monkeypatch.setattr("kachery_store.local_backend.LocalBackend.read", _read_anything)


def _read_anything(self, name, *_):
    try:
        return Path(self.root, name).read_bytes()
    except FileNotFoundError:
        raise NotFound(name) from None


def _address_of_large():
    return hash_buffer("blake3", np.ascontiguousarray(np.arange(100_000.0) + 1).tobytes())


NAMES = [attack.__name__ for attack, _ in ATTACKS]


@pytest.mark.parametrize(("attack", "weakness"), ATTACKS, ids=NAMES)
def test_it_fails(zone, attack, weakness):
    assert not attack(zone)


@pytest.mark.parametrize(("attack", "weakness"), ATTACKS, ids=NAMES)
def test_it_succeeds_on_a_weakened_kachery(zone, attack, weakness, monkeypatch):
    _weaken(monkeypatch, weakness)
    assert attack(zone)
