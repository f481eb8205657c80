"""Hostile bytes, and secrets that show: what trust must not give away, and what must not stop it."""

import base64
import bz2
import json
import lzma
import os
import resource
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import run_python

import kachery
from kachery.cli import cli
from kachery_store.digest import blake3_bytes
from kachery_store.errors import BadKey, DigestMismatch, StoreUnavailable, Unsupported
from kachery_store.identity import delegated, export_identity, identity, own_identity
from kachery_store.saying import clean, clean_lines
from kachery_store.signing import Signer, write_private
from kachery_store.unpacking import MOST_ITEMS, unpack
from kachery_tasks.bundles.archive import Archive
from kachery_tasks.claims import Step
from kachery_tasks.errors import BadBundle
from kachery_tasks.record import Record
from kachery_tasks.sealed import seal, signed
from kachery_tasks.settings import current
from kachery_tasks.trusted_keys import Trusted, distrust, trust, trusted_keys

SEED = (b"s" * 32).hex()
KEY = Signer(b"m" * 32).public.hex()
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
RAN = []


@kachery.task(version="1")
def leaf(x):
    RAN.append(x)
    return ["right", x]


@kachery.action(version="1")
def send(x):
    RAN.append(x)


@kachery.task(version="1")
def peek(x):
    return sum(SEED in value for value in os.environ.values())


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A function: a with-block in which a person of that name works, with the zone of that name."""
    toml = "".join(f'[zones.{name}]\nurl = "{tmp_path}/{name}"\n' for name in ("lab", "other"))
    (tmp_path / "kachery.toml").write_text(toml)
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))

    @contextmanager
    def works(name, zone="lab", **options):
        with monkeypatch.context() as patch:
            patch.setenv("KACHERY_USER_DIR", str(tmp_path / "users" / name))
            patch.setenv("KACHERY_DIR", str(tmp_path / f"store-{name}"))
            with kachery.using(dir=tmp_path / f"store-{name}", zone=zone, **options):
                yield current().store

    return works


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.chmod(0o644)
        path.unlink()
    path.write_bytes(data)


def text_of_identity(**changes):
    public = Signer(bytes.fromhex(SEED)).public.hex()
    told = {"format": "kachery identity 1", "public": public, "private": SEED, "created": 1}
    return json.dumps({**told, **changes})


# The private key, and where it shows


@pytest.mark.parametrize("around", ["'{}'", '"{}"', "\ufeff{}", "  {}\n", "\ufeff'{}'"])
def test_the_text_of_an_identity_may_come_with_quotes_and_marks(around, monkeypatch):
    monkeypatch.setenv("KACHERY_IDENTITY", around.format(text_of_identity()))
    assert own_identity().public == Signer(bytes.fromhex(SEED)).public
    assert json.loads(export_identity())["private"] == SEED


@pytest.mark.parametrize(
    "value",
    [
        SEED,
        SEED[:-1],
        base64.b64encode(bytes.fromhex(SEED)).decode(),
        base64.b64encode(text_of_identity().encode()).decode(),
        json.dumps(text_of_identity()),
        text_of_identity()[:-1],
        text_of_identity(private="0x" + SEED),
        text_of_identity(private=SEED[:-1]),
        text_of_identity(public=SEED),
        "'" + text_of_identity(note="x" * 5000),
        "private: " + SEED,
        '{"a":' + "[" * 100_000,
    ],
)
def test_what_is_no_identity_is_never_shown(value, monkeypatch, person):
    monkeypatch.setenv("KACHERY_IDENTITY", value)
    with pytest.raises(BadKey) as caught:
        own_identity()
    error, texts = caught.value, []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    with warnings.catch_warnings(record=True) as warned, person("ada"):
        warnings.simplefilter("always")
        try:
            leaf(1)
        except StoreUnavailable as refused:
            texts.append(str(refused))
    texts += [str(one.message) for one in warned]
    texts += [one.output + str(one.exception) for one in (run("id"), run("trust", "list"))]
    assert not [text for text in texts if SEED[:-1] in text or value in text]


def test_a_path_that_leads_nowhere_is_told_from_a_damaged_text(monkeypatch, tmp_path):
    monkeypatch.setenv("KACHERY_IDENTITY", str(tmp_path / "nothing.json"))
    with pytest.raises(BadKey, match="a file that is not there"):
        identity()
    monkeypatch.setenv("KACHERY_IDENTITY", SEED)
    with pytest.raises(BadKey, match="text that is damaged"):
        identity()
    (tmp_path / "key.json").write_text(text_of_identity())
    (tmp_path / "key.json").chmod(0o600)
    monkeypatch.setenv("KACHERY_IDENTITY", f"'{tmp_path}/key.json'\n")
    assert identity().public == Signer(bytes.fromhex(SEED)).public


def test_a_delegated_key_shows_its_seed_in_no_text():
    one = delegated()
    texts = [repr(one), str(one), f"{one}", f"{one!r:>200}", "%s" % one, "{}".format(one)]
    assert not [text for text in texts if one.seed.hex() in text or repr(one.seed)[2:-1] in text]
    with pytest.raises(TypeError):
        "%s %s %s" % one


def test_processes_do_not_get_the_private_key(person, monkeypatch):
    monkeypatch.setenv("KACHERY_IDENTITY", text_of_identity())
    with person("ada", executor="processes"):
        job = peek.submit(1)
        assert job.result() == 0
        data = current().store.zone.backend.read(f"jobs/{job.id[:2]}/{job.id}")
    key, _, certificate, _ = msgpack.unpackb(data)[4][0]
    assert key == Signer(bytes.fromhex(SEED)).public and certificate is not None


# Hostile bytes


def sealed_by_anybody(magic, version, body, signatures=()):
    try:
        digest = blake3_bytes(b"%s %d\n%s" % (magic.encode(), version, body))
    except (OverflowError, TypeError, ValueError):
        digest = bytes(32)
    return msgpack.packb([magic, version, body, digest, list(signatures)])


def step_body(job_id, **changes):
    told = {
        "job_id": job_id,
        "action": "x",
        "state": "finished",
        "attempt": 1,
        "run": "ab" * 32,
        "arguments": [],
        "started": 1.0,
        "changed": 1.0,
        "host": "h",
        "user": "u",
        "pid": 1,
        "failure": None,
        "by": "",
    }
    return msgpack.packb([{**told, **changes}[name] for name in Step._fields])


@pytest.mark.parametrize("version", [float("inf"), float("nan"), 1.0, True, "1", None])
def test_a_version_that_is_no_number_is_damage(version, tmp_path, person):
    with person("ada"):
        own_identity()
        job = leaf.job(1)
        data = sealed_by_anybody("kachery record", version, msgpack.packb([job.id]))
        with pytest.raises(DigestMismatch):
            Record.from_bytes(data, job.id)
        put(tmp_path / "lab/jobs" / job.id[:2] / job.id, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert leaf(1) == ["right", 1]
    assert RAN == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"user": 5},
        {"host": None},
        {"action": None},
        {"state": ["finished"]},
        {"state": "done"},
        {"attempt": "x"},
        {"attempt": -1},
        {"run": "a\0b"},
        {"run": "../../x"},
        {"arguments": [["x", "y"]]},
        {"arguments": {}},
        {"started": "x"},
        {"started": 1e300},
        {"changed": float("nan")},
        {"changed": "x"},
        {"pid": 1.5},
        {"failure": ["a"]},
        {"failure": ["a", 1, "b"]},
        {"by": b""},
    ],
)
def test_a_step_that_is_none_counts_as_unknown(changes, tmp_path, person):
    with person("ada"):
        job_id = send.job(1).id
        data = seal("kachery action", 1, step_body(job_id, **changes))
        with pytest.raises(DigestMismatch):
            Step.from_bytes(data, job_id)
        assert Step.from_bytes(seal("kachery action", 1, step_body(job_id)), job_id).user == "u"
        put(tmp_path / "lab/actions" / job_id[:2] / job_id / "1", data)
        with pytest.raises(kachery.OutcomeUnknown):
            send(1)
        told = run("actions", "--zone", "lab")
        assert told.exit_code == 0 and "unknown" in told.output
        assert run("resolve", job_id, "--failed", "--zone", "lab").exit_code == 0
    assert RAN == []


def many(count, item):
    return b"\xdd" + struct.pack(">I", count) + item * count


@pytest.mark.parametrize(
    "data",
    [
        many(20_000_000, b"\x80"),
        many(20_000_000, b"\x90"),
        many(20_000_000, b"\xc0"),
        many(6_000_000, b"\xa2ab"),
        b"".join([b"\xdd\x00\x01\x86\xa0"] * 1000) + bytes(300_000),
        many(90_000, many(20, b"\x01")),
    ],
)
def test_many_small_items_do_not_take_the_memory(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"items|exceeds|incomplete|msgpack"):
        unpack(data)
    scale = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale < 150_000_000


def test_what_is_usual_is_read_however_large():
    usual = [["a" * 64] * 10_000, [["query", "b" * 64, b"c" * 32]] * 10_000, b"d" * 3_000_000]
    assert unpack(msgpack.packb(usual)) == usual
    assert 2 * 10_000 * 4 < MOST_ITEMS


@pytest.mark.parametrize("place", ["signatures", "body"])
def test_a_large_record_of_nothing_is_a_miss(place, tmp_path, person):
    with person("ada"):
        own_identity()
        job = leaf.job(1)
        if place == "body":
            bomb = b"\x92" + msgpack.packb(job.id) + many(5_000_000, b"\x80")
            data = seal("kachery record", 1, bomb)
        else:
            digest = blake3_bytes(b"kachery record 1\nx")
            head = msgpack.packb(["kachery record", 1, b"x", digest, None])[:-1]
            data = head + many(5_000_000, b"\x80")
        with pytest.raises(DigestMismatch):
            Record.from_bytes(data, job.id)
        put(tmp_path / "lab/jobs" / job.id[:2] / job.id, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert leaf(1) == ["right", 1]
    assert RAN == [1]


def test_a_zip_with_more_members_than_it_says_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 1, 0, 0) + bytes(12) + b"a"
    first = b"PK\x03\x04" + bytes(30)

    def written(entries, said):
        listed = entry * entries
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, said, said, len(listed), len(first), 0)
        (tmp_path / "x.zip").write_bytes(first + listed + end)
        return tmp_path / "x.zip"

    def refuse(*_):
        raise AssertionError("it is parsed")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    for entries, said in ((1000, 1), (3, 1), (2, 3), (5, 0)):
        with pytest.raises(BadBundle, match=f"not that of {said} members"):
            Archive(written(entries, said))
    with pytest.raises(AssertionError, match="parsed"):
        Archive(written(3, 3))


# Codecs that an unsigned manifest names


def stored_with(store, codecs, blob, values):
    """Store an array, and have its manifest say that it is in another blob, with other codecs."""
    from kachery_store.digest import Digest
    from kachery_store.zarr.arrays import open_stored
    from kachery_store.zarr.manifest import entry

    uri = kachery.store_zarr(values, chunks=len(values), codecs=None)
    address = uri.removeprefix("blake3://").partition("?")[0]
    manifest = open_stored(store, address).manifest
    digest = blake3_bytes(blob)
    store.blobs.put(Digest("blake3", digest.hex()), blob, durable=False)
    text = codecs if isinstance(codecs, str) else json.dumps(codecs)
    made = manifest.tables[""]._replace(codecs=text, entries=entry(digest, len(blob)), blob=None)
    store.arrays.replace(address, manifest._replace(tables={"": made}).to_bytes())
    return uri


RAW = {"name": "bytes", "configuration": {"endian": "little"}}
BOMB = bytes(400_000_000)


def zlib_of(data, wbits):
    made = zlib.compressobj(1, zlib.DEFLATED, wbits)
    return made.compress(data) + made.flush()


def zstd_of(data):
    from numcodecs.zstd import Zstd

    return bytes(Zstd().encode(data))


def blosc_of(data):
    from numcodecs.blosc import Blosc

    return bytes(Blosc().encode(data))


def lz4_of(data):
    from numcodecs.lz4 import LZ4

    return bytes(LZ4().encode(data))


COMPRESSED = {
    "gzip": lambda data: zlib_of(data, 31),
    "blosc": blosc_of,
    "zstd": zstd_of,
    "numcodecs.zlib": lambda data: zlib_of(data, 15),
    "numcodecs.bz2": bz2.compress,
    "numcodecs.lz4": lz4_of,
    "numcodecs.lzma": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("form", ["alone", "after a transpose", "twice"])
def test_a_chunk_becomes_no_more_than_its_size(name, form, monkeypatch):
    from kachery_store.zarr import bounded

    values = np.arange(8, dtype="i4")
    store = current().store
    codec = {"name": name, "configuration": {}}
    codecs, again = [RAW, codec], bytes
    if form == "after a transpose":
        codecs = [{"name": "transpose", "configuration": {"order": [0]}}, *codecs]
    if form == "twice":
        codecs, again = [*codecs, {"name": "gzip", "configuration": {}}], COMPRESSED["gzip"]
    sizes = []
    real = bounded._check_size
    good = stored_with(store, codecs, again(COMPRESSED[name](values.tobytes())), values)
    with monkeypatch.context() as patch:
        patch.setattr(bounded, "_check_size", lambda *of: (sizes.append(of), real(*of)))
        assert (kachery.open_zarr(good)[...] == values).all()
    most = {size for _, size in sizes}
    if (name, form) != ("zstd", "alone"):  # which goes into memory of the right size
        assert most and max(most) <= (32 if form == "alone" else (1 << 20) + 1000)
    bomb = stored_with(store, codecs, again(COMPRESSED[name](BOMB[:40_000_000])), values + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DigestMismatch):
        kachery.open_zarr(bomb)[...]
    if sys.platform != "darwin":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


def test_shards_are_bounded_inside(tmp_path):
    """Zarr itself decodes the chunks in a shard, with what bounds them in the place of the codecs."""
    from kachery_store.zarr.bounded import BOUNDED, with_bounds

    gzip = {"name": "gzip", "configuration": {"level": 5}}
    inner = {"chunk_shape": [2], "codecs": [RAW, gzip], "index_codecs": [RAW, {"name": "crc32c"}]}
    (found,) = with_bounds([{"name": "sharding_indexed", "configuration": inner}], (8,), 4)
    bounded = found["configuration"]["codecs"][1]
    assert (bounded["name"], bounded["configuration"]["most"]) == (BOUNDED, 8)
    assert gzip.items() <= bounded["configuration"].items()


def test_a_shard_is_read_and_one_with_a_bomb_in_it_is_not():
    import zarr

    def shard_of(values):
        files = {}
        quarter = len(values) // 4
        zarr.create_array(
            zarr.storage.MemoryStore(files),
            data=values,
            chunks=(quarter,),
            shards=(len(values),),
            compressors=[zarr.codecs.GzipCodec()],
        )
        return json.loads(files["zarr.json"].to_bytes())["codecs"], files["c/0"].to_bytes()

    values = np.arange(8, dtype="i4")
    codecs, good = shard_of(values)
    _, bomb = shard_of(np.ones(16_000_000, "i4"))
    store = current().store
    assert (kachery.open_zarr(stored_with(store, codecs, good, values))[...] == values).all()
    uri = stored_with(store, codecs, bomb, values + 1)
    with pytest.raises(DigestMismatch, match="it can have at most 8"):
        kachery.open_zarr(uri)[...]


@pytest.mark.parametrize(
    "codecs",
    [
        [RAW, {"name": "evil_codec", "configuration": {}}],
        [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "evil_codec"}]}}],
        "nothing",
        "[]",
        "5",
        "[5]",
        '[{"name": 5}]',
        "[" * 100_000,
    ],
)
def test_no_package_is_imported_because_a_manifest_names_it(codecs, project):
    (project / "evil_codec.py").write_text("Codec = None\n")
    told = project / "evil_codec-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: evil_codec\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[zarr.codecs]\nevil_codec = evil_codec:Codec\n")
    values = np.arange(8, dtype="i4")
    uri = stored_with(current().store, codecs, bytes(32), values)
    run_python(
        f"""
        import sys, kachery
        try:
            kachery.open_zarr({uri!r})[...]
        except (kachery.KacheryError, ValueError) as error:
            assert "codec" in str(error), error
        else:
            raise AssertionError("it is read")
        assert "evil_codec" not in sys.modules
        """
    )
    assert kachery.store_zarr(values, chunks=8, codecs=None) == uri  # which mends it
    assert (kachery.open_zarr(uri)[...] == values).all()


def test_a_codec_that_the_program_knows_is_read():
    from dataclasses import dataclass

    from zarr.abc.codec import BytesBytesCodec
    from zarr.registry import register_codec

    @dataclass(frozen=True)
    class Same(BytesBytesCodec):
        is_fixed_size = True

        @classmethod
        def from_dict(cls, _data):
            return cls()

        def to_dict(self):
            return {"name": "test.same", "configuration": {}}

        async def _decode_single(self, data, _spec):
            return data

        async def _encode_single(self, data, _spec):
            return data

        def compute_encoded_size(self, size, _spec):
            return size

    values = np.arange(8, dtype="i4")
    codecs = [RAW, {"name": "test.same", "configuration": {}}]
    uri = stored_with(current().store, codecs, values.tobytes(), values)
    with pytest.raises(Unsupported, match=r"import the package of that codec"):
        kachery.open_zarr(uri)[...]
    register_codec("test.same", Same)
    from kachery_store.zarr.bounded import check_codecs

    check_codecs.cache_clear()
    assert (kachery.open_zarr(uri)[...] == values).all()


@pytest.mark.parametrize(
    "tables",
    [
        {"": ["[]", "text"]},
        {"": [5, b""]},
        {"": ["[]", None, "x" * 32, 1]},
        {"": ["[]", None, b"x" * 32, "1"]},
        {"": []},
        [],
        5,
        {"": ["[]", 1_000_000_000]},
    ],
)
def test_a_manifest_that_is_none_is_damage(tables):
    from kachery_store.zarr.manifest import Manifest, _digest

    for encoding in (b"x", 8_000_000_000, "x", None):
        body = msgpack.packb([encoding, tables, True])
        data = msgpack.packb(["kachery array", 1, body, _digest(body)])
        with pytest.raises(DigestMismatch):
            Manifest.from_bytes(data, blake3_bytes(b"x").hex())


# What is printed


def test_texts_of_others_are_harmless():
    assert clean("a\x1b[31m\nb\u202ec\x07") == "a\ufffd[31m\ufffdb\ufffdc\ufffd"
    assert clean_lines("a\x1b\n\tb\r") == "a\ufffd\n        b\ufffd"
    assert clean("Müller, 東京") == "Müller, 東京"


def test_what_a_bundle_says_of_itself_is_one_harmless_line(tmp_path, person):
    with person("ada"):
        leaf(1)
        kachery.bundle(leaf.job(1), tmp_path / "a.zip")
        good = zipfile.ZipFile(tmp_path / "a.zip")
        sheet = json.loads(good.read("kachery-bundle.json"))

        def changed(**changes):
            with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
                for name in good.namelist():
                    told = json.dumps({**sheet, **changes})
                    is_sheet = name == "kachery-bundle.json"
                    made.writestr(name, told if is_sheet else good.read(name))
            return tmp_path / "b.zip"

        assert run("verify", changed(about="figure 3")).exit_code == 0
        assert run("verify", changed(about="x" * 200)).exit_code == 0
        for changes in (
            {"about": "figure 3\nsigned    9 records by key of Ada"},
            {"about": ESCAPES},
            {"about": "x" * 201},
            {"left_out": [ESCAPES]},
            {"gone": ["a\nb"]},
            {"asked": [{"uri": ESCAPES, "value": ""}]},
            {"asked": [{"uri": "job://x", "value": "", ESCAPES: ""}]},
            {"members": [[ESCAPES, 1, "blake3://" + "0" * 64]]},
            {"format": ESCAPES},
        ):
            with pytest.raises(BadBundle) as caught:
                kachery.verify_bundle(changed(**changes))
            assert str(caught.value).isprintable()
            told = run("verify", tmp_path / "b.zip")
            assert "\x1b" not in told.output


def test_a_bundle_of_what_is_long_and_odd_can_be_made_and_read(tmp_path, person):
    with person("ada"):
        source = tmp_path / ("n\x1bame" * 45)
        source.write_text("text")
        uri = kachery.store_file(source)
        made = kachery.bundle(source, tmp_path / "a.zip")
        assert made.about.isprintable() and len(made.about) <= 200
        assert kachery.verify_bundle(tmp_path / "a.zip").asked == (uri.partition("?")[0],)


def test_records_and_actions_of_others_print_nothing_that_terminals_obey(tmp_path, person):
    with person("ada", zone=None) as store:
        leaf(1)
        job = leaf.job(1)
        ours = Record.from_bytes(store.jobs.read(job.id), job.id)
        forged = ours._replace(host=ESCAPES, user=f"u\nsigned by Ada{ESCAPES}", started=1.0)
        store.differing.create(
            f"{job.id}-{'a' * 16}",
            forged._replace(result=ours.result._replace(address=b"r" * 32)).to_bytes(),
        )
        other = leaf.job(2).id
        store.jobs.create(other, forged._replace(job_id=other, task=f"t{ESCAPES}").to_bytes())
        action = send.job(1).id
        data = step_body(action, action=f"a{ESCAPES}", host=ESCAPES, user="u\nforged")
        put(
            tmp_path / "store-ada/actions" / action[:2] / action / "1",
            seal("kachery action", 1, step_body(action, **forged_step())),
        )
        with pytest.raises(kachery.ActionFailed) as caught:
            send(1)
        assert "\x1b" not in str(caught.value) and "\nforged" not in str(caught.value)
        shown = [
            run("show", job.id),
            run("show", other),
            run("jobs"),
            run("show", action),
            run("actions"),
        ]
    for told in shown:
        assert told.exit_code == 0 and "\x1b" not in told.output and "\x07" not in told.output
        assert not [
            line for line in told.output.splitlines() if line.startswith(("signed", "forged"))
        ]
    assert data


def forged_step():
    return {
        "action": f"a{ESCAPES}",
        "host": ESCAPES,
        "user": "u\nforged",
        "state": "error",
        "failure": [f"E{ESCAPES}", f"m{ESCAPES}\nforged", f"line\n{ESCAPES}"],
    }


# Keys, files and options


def mode_of(path):
    return path.stat().st_mode & 0o777


def test_the_list_of_trusted_keys_may_be_read_by_others_but_not_written(tmp_path):
    trust(Trusted(KEY, "Ada"))
    path = tmp_path / "user/trusted-keys.json"
    path.chmod(0o644)
    assert [one.name for one in trusted_keys()] == ["Ada"]
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(BadKey, match=r"can be changed by others.*chmod go-w"):
            trusted_keys()
    path.unlink()
    path.mkdir()
    with pytest.raises(BadKey, match="should be a file"):
        trusted_keys()


@pytest.mark.parametrize("kind", ["read by others", "damaged", "empty", "a folder", "deep"])
def test_a_key_that_cannot_be_used_can_be_replaced_and_stops_nothing_else(kind, tmp_path):
    (tmp_path / "new.json").write_text(text_of_identity())
    old = own_identity().public.hex()
    path = tmp_path / "user/identity.json"
    if kind == "read by others":
        path.chmod(0o644)
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"damaged": b"\xff", "empty": b"", "deep": b"[" * 200_000}[kind])
        path.chmod(0o600)
    refused = run("id")
    assert isinstance(refused.exception, BadKey) and "move it away" in str(refused.exception)
    assert run("trust", "add", KEY, "--name", "Ada").exit_code == 0
    listed = run("trust", "list")
    assert listed.exit_code == 0 and "Ada" in listed.output and "cannot be used" in listed.output
    replaced = run("id", "import", "--replace", tmp_path / "new.json")
    if kind == "a folder":
        assert isinstance(replaced.exception, StoreUnavailable)
        return
    assert replaced.exit_code == 0
    assert identity().public == Signer(bytes.fromhex(SEED)).public and mode_of(path) == 0o600
    assert old not in [one.key for one in trusted_keys()]


def test_an_earlier_key_is_trusted_without_pickles(tmp_path):
    (tmp_path / "new.json").write_text(text_of_identity())
    old = own_identity().public.hex()
    told = run("id", "import", "--replace", tmp_path / "new.json")
    assert f"kachery trust remove {old}" in told.output
    assert [(one.key, one.pickle) for one in trusted_keys()] == [(old, False)]


@pytest.mark.parametrize("span", ["9000y", "99999999999d"])
def test_trust_does_not_end_at_a_date_that_is_none(span, tmp_path):
    assert isinstance(run("trust", "add", KEY, "--expires", span).exception, BadKey)
    assert trusted_keys() == ()
    for until in (1e30, float("inf"), float("nan"), -1e30):
        told = {"format": "kachery trusted keys 1", "keys": [{"key": KEY, "until": until}]}
        write_private(str(tmp_path / "user/trusted-keys.json"), told, replace=True)
        assert KEY in run("trust", "list").output
    assert distrust(KEY) == 1


@pytest.mark.parametrize("option", ["--zone", "--task"])
def test_an_empty_scope_is_refused(option):
    assert isinstance(run("trust", "add", KEY, option, "").exception, BadKey)
    assert trusted_keys() == ()


def test_a_zone_that_is_not_configured_is_said(person):
    with person("ada", zone=None):
        assert (
            "no zone is named 'nosuch' so far (there are lab, other)"
            in run("trust", "add", KEY, "--zone", "nosuch").output
        )
        assert "no zone" not in run("trust", "add", KEY, "--zone", "lab").output


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path):
    code = """
        import json, os, sys
        from kachery_store import signing
        def die(*_, **__):
            os.kill(os.getpid(), 9)
        signing._sync = signing.os.fsync = die
        signing.write_private(sys.argv[1], {"private": "secret"}, replace=True)
        """
    folder = tmp_path / "user"
    for name in ("identity.json", "trusted-keys.json"):
        assert run_python(code, folder / name, check=False).returncode == -9
    left = sorted(path.name for path in folder.iterdir())
    assert [name.partition(".json.")[0] for name in left] == ["identity", "trusted-keys"]
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = folder / f"identity.json.{other.pid}.{'a' * 16}"
    not_ours = folder / "identity.json.12.backup"
    for path in (alive, not_ours):
        path.write_text("{}")
    own_identity()
    trust(Trusted(KEY))
    other.communicate()
    there = {path.name for path in folder.iterdir()} - {"trusted-keys.json.lock"}
    assert there == {"identity.json", "trusted-keys.json", alive.name, not_ours.name}


def test_a_bundle_is_verified_without_a_key_that_can_be_used(tmp_path, person):
    with person("ada"):
        leaf(1)
        kachery.bundle(leaf.job(1), tmp_path / "a.zip")
        path = tmp_path / "users/ada/identity.json"
        path.chmod(0o644)
        told = run("verify", tmp_path / "a.zip")
    assert told.exit_code == 0 and "whom you do not trust so far" in told.output


def test_signed_files_keep_their_bytes(person):
    with person("ada"):
        leaf(1)
        job = leaf.job(1)
        data = current().store.zone.backend.read(f"jobs/{job.id[:2]}/{job.id}")
        assert signed(data, own_identity()) == data
