"""Bundles: a value with its lineage in one file, which others verify offline, and import."""

import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest
from conftest import run_python, write

import kachery as ka
from kachery_store.digest import hash_buffer
from kachery_tasks.bundles import archive as archives
from kachery_tasks.bundles.checking import id_of
from kachery_tasks.listing import all_records
from kachery_tasks.record import MAGIC, VERSION, Record
from kachery_tasks.sealed import seal
from kachery_tasks.settings import current

STEPS = """
import numpy as np, kachery as ka
class Model:
    def __init__(self, x): self.x = x
@ka.task
def load(uri): return np.arange(20_000.0)
@ka.task
def scaled(data, by): return data * by
@ka.task
def total(arrays): return float(sum(one.sum() for one in arrays))
@ka.task
def asks(n): return [total([scaled(load("raw"), i)]) for i in range(n)]
@ka.task
def stored(n): return ka.store_text("text of the lab " * n, label="out.txt")
@ka.task(opaque=("return",))
def opaque(n): return lambda: n
@ka.task
def chunked(n):
    import dask.array as da
    return da.arange(n, chunks=n // 4)
"""


@pytest.fixture
def steps(project):
    write(project / "bundled_steps.py", STEPS)
    import bundled_steps

    return bundled_steps


@pytest.fixture
def result(steps, tmp_path):
    """A bundle of a result with two jobs in its lineage."""
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    job.result()
    ka.bundle(job, tmp_path / "result.zip")
    return tmp_path / "result.zip"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A function after which this process is another user's, with an empty store; it returns the own key."""

    def go(name="other"):
        from kachery_store.identity import own_identity

        key = own_identity().public.hex()
        monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / f"user-{name}"))
        monkeypatch.setenv("KACHERY_DIR", str(tmp_path / f"store-{name}"))
        return key

    return go


def trust(key, *options):
    from kachery_tasks.trusted_keys import Trusted
    from kachery_tasks.trusted_keys import trust as add

    add(Trusted(key, pickle="pickle" in options))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, change, *, listed=True):
    """The bundle with its members changed, and a sheet that fits."""
    content = members(path)
    sheet = json.loads(content.pop("kachery-bundle.json"))
    change(content, sheet)
    if listed:
        sheet["members"] = [
            [name, len(data), digest_of(name, data)] for name, data in sorted(content.items())
        ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kachery-bundle.json", json.dumps(sheet))
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def digest_of(name, data):
    algorithm = name.partition("/")[0]
    algorithm = algorithm if algorithm in ("sha1", "sha256") else "blake3"
    return f"{algorithm}://{hash_buffer(algorithm, data)}"


def bad(path, *words):
    with pytest.raises(ka.BadBundle) as caught:
        ka.verify_bundle(path)
    text = str(caught.value)
    assert str(path) in text
    for word in words:
        assert word in text.replace(str(path), "")
    before = list(Path(current().root).rglob("*"))
    with pytest.raises(ka.BadBundle):
        ka.import_bundle(path)
    assert list(Path(current().root).rglob("*")) == before  # nothing of it was stored


def resealed(data, **fields):
    """A record file that says something else, as whoever has no key can write it."""
    record = Record._make(msgpack.unpackb(msgpack.unpackb(data)[2]))._replace(**fields)
    return seal(MAGIC, VERSION, msgpack.packb(list(record)))


# What is in it


def test_a_bundle_has_the_value_all_records_and_their_code(result):
    names = members(result)
    report = ka.verify_bundle(result)
    assert report.jobs == 2 and len(report.signers) == 1 and report.unsigned == 0
    assert sum(report.signers.values()) == 2
    assert sum(name.startswith("jobs/") for name in names) == 2
    assert sum(name.startswith("code/") for name in names) == 2
    record = next(one for one in all_records(current().store) if one.task.endswith("scaled"))
    assert report.asked == (record.uri,)
    made = [name for name, data in names.items() if data == (np.arange(20_000.0) * 2).tobytes()]
    assert len(made) == 1  # the value; the result of `load` is not in it
    assert not any(data == np.arange(20_000.0).tobytes() for data in names.values())


def test_equal_content_is_an_equal_file(steps, result, tmp_path):
    ka.bundle(steps.scaled.job(steps.load.job("raw"), 2.0), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == result.read_bytes()


def test_intermediate_results_and_input_files_on_request(steps, tmp_path):
    uri = ka.store_text("from the microscope", label="raw.txt")
    steps.scaled(steps.load(uri), 3.0)
    job = steps.scaled.job(steps.load.job(uri), 3.0)
    done = ka.bundle(job, tmp_path / "some.zip")
    assert uri.partition("?")[0] in done.left_out
    assert ka.verify_bundle(tmp_path / "some.zip").left_out == done.left_out
    done = ka.bundle(job, tmp_path / "all.zip", with_intermediates=True)
    assert done.left_out == done.gone == ()
    content = members(tmp_path / "all.zip").values()
    assert b"from the microscope" in content and np.arange(20_000.0).tobytes() in content


def test_results_of_all_kinds(steps, tmp_path, elsewhere):
    uri = steps.stored(3)
    steps.asks(2)
    array = np.asarray(steps.chunked(1000))
    jobs = [steps.stored.job(3), steps.asks.job(2), steps.chunked.job(1000)]
    for job in jobs:
        ka.bundle(job, tmp_path / f"{job.task}.zip")
    ids = [job.id for job in jobs]
    assert ka.verify_bundle(tmp_path / f"{jobs[1].task}.zip").jobs == 6  # and what it asked for
    trust(elsewhere())
    for job in jobs:
        done = ka.import_bundle(tmp_path / f"{job.task}.zip")
        assert done.refused == () and done.jobs
    with ka.using(read_only=True):
        assert steps.stored(3) == uri and ka.load_text(uri) == "text of the lab " * 3
        assert steps.asks(2) == [0.0, 199990000.0]
        assert np.array_equal(np.asarray(steps.chunked(1000)), array)
    assert {one.job_id for one in all_records(current().store)} >= set(ids)


def test_a_file_that_no_job_made(tmp_path, elsewhere):
    uri = ka.store_text("raw data", label="raw.txt")
    done = ka.bundle(uri, tmp_path / "file.zip")
    assert done.jobs == 0
    report = ka.verify_bundle(tmp_path / "file.zip")
    assert report.asked == (uri.partition("?")[0],)
    elsewhere()  # nobody need be trusted for a file by its digest
    assert ka.import_bundle(tmp_path / "file.zip").members == 1
    assert ka.load_text(uri) == "raw data"


def test_a_file_of_a_job_on_disk(steps, tmp_path):
    uri = steps.stored(2)
    (tmp_path / "copy.txt").write_bytes(ka.load_bytes(uri))
    ka.bundle(tmp_path / "copy.txt", tmp_path / "file.zip")
    report = ka.verify_bundle(tmp_path / "file.zip")
    assert report.jobs == 1 and set(report.asked) == {
        uri.partition("?")[0],
        steps.stored.job(2).uri,
    }


def test_what_is_not_known_cannot_be_bundled(tmp_path):
    with pytest.raises(ka.NotFound):
        ka.bundle("job://" + "ab" * 32, tmp_path / "none.zip")
    with pytest.raises(ka.NotFound):
        ka.bundle("sha1://" + "ab" * 20, tmp_path / "none.zip")
    assert os.listdir(tmp_path) == []


def test_a_lost_result_is_said(steps, result, tmp_path):
    record = next(one for one in all_records(current().store) if one.task.endswith("scaled"))
    for path in Path(current().root, "blake3").rglob("*"):
        if path.is_file() and path.stat().st_size == 160_000:
            path.chmod(0o600)
            path.unlink()
    before = result.read_bytes()
    with pytest.raises(ka.NotFound, match="lost"):
        ka.bundle(record, result)
    assert result.read_bytes() == before and os.listdir(tmp_path).count("result.zip") == 1


def test_nothing_is_under_the_name_before_it_is_whole(steps, tmp_path, monkeypatch):
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    job.result()

    def full(archive, source, progress):
        assert [one for one in os.listdir(tmp_path) if one.endswith(".zip")] == []
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_write_member", full)
    with pytest.raises(OSError, match="No space"):
        ka.bundle(job, tmp_path / "result.zip")
    assert [one for one in os.listdir(tmp_path) if "result" in one] == []


def test_large_zips(tmp_path, monkeypatch):
    """More members than the older form of a zip can count; the newer form is read and measured, too."""
    sources = []
    for number in range(70_000):
        data = b"%d" % number
        digest = ka_digest(data)
        sources.append(archives.Source(digest.path, len(data), digest, data=data))
    path = str(tmp_path / "many.zip")
    archives.write_archive(path, b"{}", sources, lambda _: None)
    with archives.Archive(path) as archive:
        assert len(archive.sizes) == 70_001
        assert archive.read(sources[69_999].name, 10) == b"69999"
    monkeypatch.setattr(archives, "MOST_MEMBERS", 70_000)
    with pytest.raises(ka.BadBundle, match="too long"):
        archives.Archive(path)


def ka_digest(data):
    from kachery_store.digest import Digest

    return Digest("blake3", hash_buffer("blake3", data))


# Importing


def test_an_imported_result_is_a_hit_if_its_signer_is_trusted(steps, result, elsewhere):
    key = elsewhere()
    done = ka.import_bundle(result)
    assert len(done.refused) == 2 and key in done.refused[0][1]
    assert done.jobs == () and done.members == 0
    assert not Path(current().root, "blake3").exists()  # what only refused records need
    trust(key)
    done = ka.import_bundle(result)
    assert done.refused == () and len(done.jobs) == 2 and done.known == ()
    with ka.using(read_only=True):
        assert np.array_equal(steps.scaled.job(steps.load.job("raw"), 2.0).result()[:3], [0, 2, 4])
    assert len(ka.import_bundle(result).known) == 2


def test_one_that_was_made_here_comes_back(steps, result, tmp_path, monkeypatch):
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "empty"))
    assert len(ka.import_bundle(result).jobs) == 2


def test_another_result_that_is_here_stays(steps, tmp_path, elsewhere, monkeypatch):
    write(
        tmp_path / "project" / "noisy.py",
        "import kachery as ka, os\n@ka.task\ndef f(): return os.urandom(4)\n",
    )
    import noisy

    there = noisy.f()
    ka.bundle(noisy.f.job(), tmp_path / "noisy.zip")
    trust(elsewhere())
    here = noisy.f()
    done = ka.import_bundle(tmp_path / "noisy.zip")
    assert here != there and done.differing == (noisy.f.job().uri,) and done.jobs == ()
    assert noisy.f() == here
    from kachery_tasks.listing import other_results

    store = current().store
    (record,) = all_records(store)
    assert [one.result.address for one in other_results(store, record)] != [record.result.address]


def test_pickles_need_more_trust(steps, tmp_path, elsewhere):
    steps.opaque(3)
    ka.bundle(steps.opaque.job(3), tmp_path / "opaque.zip")
    key = elsewhere()
    trust(key)
    ((_, why),) = ka.import_bundle(tmp_path / "opaque.zip").refused
    assert "--pickle" in why
    trust(key, "pickle")
    assert ka.import_bundle(tmp_path / "opaque.zip").refused == ()


def test_an_unsigned_record_of_somebody_counts_for_nobody(result, elsewhere):
    def unsign(content, sheet):
        for name in list(content):
            if name.startswith("jobs/"):
                content[name] = resealed(content[name])

    rewritten(result, unsign)
    elsewhere()
    report = ka.verify_bundle(result)
    assert report.unsigned == 2 and report.signers == {}
    done = ka.import_bundle(result)
    assert len(done.refused) == 2 and "not signed" in done.refused[0][1]
    assert list(all_records(current().store)) == []


def test_a_damaged_blob_that_is_here_is_brought_again(steps, result, tmp_path):
    (blob,) = (
        path
        for path in Path(current().root, "blake3").rglob("*")
        if path.is_file() and path.read_bytes() == (np.arange(20_000.0) * 2).tobytes()
    )
    blob.chmod(0o600)
    blob.write_bytes(b"\0" * 160_000)
    with pytest.warns(ka.DamagedWarning):
        ka.import_bundle(result)
    assert blob.read_bytes() == (np.arange(20_000.0) * 2).tobytes()


def test_no_zone_gets_what_is_imported(steps, result, tmp_path, elsewhere, monkeypatch):
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    trust(elsewhere())
    assert len(ka.import_bundle(result).jobs) == 2
    assert not [one for one in (tmp_path / "zone").rglob("*") if "jobs" in one.parts]


# Ids and links


def test_the_id_of_a_job_follows_from_its_record(steps):
    steps.asks(2)
    steps.stored(1)
    records = list(all_records(current().store))
    assert len(records) == 7
    for record in records:
        assert id_of(record) == record.job_id


def test_containers_are_said_not_to_be_proven(steps, tmp_path):
    job = steps.total.job([steps.scaled.job(steps.load.job("raw"), 2.0)])
    job.result()
    ka.bundle(job, tmp_path / "total.zip")
    report = ka.verify_bundle(tmp_path / "total.zip")
    assert report.jobs == 3 and report.unproven == 1


def test_a_record_under_the_id_of_another_job(result):
    def swap(content, sheet):
        one, other = (name for name in content if name.startswith("jobs/"))
        content[one] = content[other]

    bad(rewritten(result, swap), "another job")


def test_a_record_whose_arguments_are_those_of_another_job(result):
    def forge(content, sheet):
        name = next(name for name in content if name.startswith("jobs/"))
        record = Record._make(msgpack.unpackb(msgpack.unpackb(content[name])[2]))
        arguments = [[one, bytes(32), "forged"] for one, *_ in record.arguments]
        content[name] = resealed(content[name], arguments=arguments)

    bad(rewritten(result, forge), "another job")


def test_a_value_of_another_job(result):
    def change(content, sheet):
        sheet["asked"][0]["value"] = "00" * 32

    bad(rewritten(result, change), "not made by")


def test_a_result_in_a_record_that_is_not_the_one_it_names(steps, tmp_path):
    steps.stored(1)
    path = tmp_path / "stored.zip"
    ka.bundle(steps.stored.job(1), path)

    def forge(content, sheet):
        name = next(name for name in content if name.startswith("jobs/"))
        record = Record._make(msgpack.unpackb(msgpack.unpackb(content[name])[2]))
        result = [*record.result[:4], b"\xc1kv1\x01", *record.result[5:]]
        content[name] = resealed(content[name], result=result)

    bad(rewritten(path, forge), "not the one it names")


def test_links_to_records_that_are_not_there(result, steps):
    (load,) = (one.job_id for one in all_records(current().store) if one.task.endswith("load"))

    def drop(content, sheet):
        del content[f"jobs/{load[:2]}/{load}"]

    bad(rewritten(result, drop), "lacks the record", load)


def test_a_link_under_a_parameter_that_was_not_taken(result):
    def forge(content, sheet):
        for name in list(content):
            if name.startswith("jobs/"):
                content[name] = resealed(content[name], inputs=[["nothing", "ab" * 32]])

    bad(rewritten(result, forge), "did not take")


@pytest.mark.parametrize("which", ["signature", "key"])
def test_signatures_that_do_not_fit(result, which):
    def forge(content, sheet):
        name = next(name for name in content if name.startswith("jobs/"))
        file = msgpack.unpackb(content[name])
        if which == "signature":
            file[4][0][1] = bytes(64)
        else:
            file[4][0][0] = bytes(32)
        content[name] = msgpack.packb(file)

    bad(rewritten(result, forge), "fit")


# Hostile files


def test_damaged_members(result):
    data = bytearray(result.read_bytes())
    at = data.find((np.arange(20_000.0) * 2).tobytes())
    data[at + 100] ^= 1
    result.write_bytes(data)
    bad(result, "damaged")


@pytest.mark.parametrize("folder", ["blake3/", "jobs/", "code/"])
def test_content_that_is_not_what_its_name_says(result, folder):
    def change(content, sheet):
        name = next(name for name in content if name.startswith(folder))
        content[name] = content[name][:-1] + b"?"

    bad(rewritten(result, change))


def test_a_sheet_that_lies_about_a_member(result):
    def change(content, sheet):
        for one in sheet["members"]:
            if one[0].startswith("code/"):
                one[2] = "blake3://" + "00" * 32

    bad(rewritten(result, change, listed=False), "damaged")


def test_missing_members_and_those_that_are_too_many(result, tmp_path):
    original = result.read_bytes()

    def drop(content, sheet):
        del content[next(name for name in content if name.startswith("blake3/"))]

    def add(content, sheet):
        content["blake3/00/" + "00" * 32] = b"x"

    bad(rewritten(result, drop, listed=False), "lacks")
    result.write_bytes(original)
    bad(rewritten(result, add, listed=False), "does not list")


def test_a_value_that_is_not_all_there(result):
    def drop(content, sheet):
        for name, data in list(content.items()):
            if data == (np.arange(20_000.0) * 2).tobytes():
                del content[name]

    bad(rewritten(result, drop), "lacks", "consists of")


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/passwd",
        "jobs/../../evil",
        "jobs/ab/" + "cd" * 32,
        "jobs/ab/" + "AB" * 32,
        "blake3/zz/" + "zz" * 32,
        "sha1/aa/" + "aa" * 20,
        "feeds/" + "ab" * 32 + "/x/../../../evil",
        "feeds/" + "ab" * 32 + "/./x",
        "tmp/x",
        "kachery.toml",
        "jobs\\ab\\x",
        "jobs/ab/\0" + "ab" * 32,
        "pins/x",
        "",
    ],
)
def test_names_that_lead_elsewhere(result, name, tmp_path):
    content = members(result)
    with zipfile.ZipFile(result, "w") as archive:
        for one, data in content.items():
            archive.writestr(one, data)
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"evil")
    bad(result, "of such a name")


def test_two_members_of_one_name(result):
    with pytest.warns(UserWarning, match="Duplicate"):
        with zipfile.ZipFile(result, "a") as archive:
            name = next(one for one in archive.namelist() if one.startswith("jobs/"))
            archive.writestr(name, b"another")
    bad(result, "two members")


def test_compressed_members_are_not_read(result):
    content = members(result)
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, data in content.items():
            archive.writestr(one, data)
        archive.writestr("blake3/00/" + "00" * 32, bytes(50_000_000))
    assert result.stat().st_size < 1_000_000
    bad(result, "compressed")


def test_members_that_overlap(result):
    """Many members that share their bytes would be more than the file has."""
    data = bytearray(result.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    count, size, start = struct.unpack("<HLL", data[end + 10 : end + 20])
    listed = bytes(data[start : start + size])
    entries = b""
    at = listed.find(b"blake3/") - 46
    length = 46 + sum(struct.unpack("<HHH", listed[at + 28 : at + 34]))
    for number in range(40):
        entry = bytearray(listed[at : at + length])
        hex = f"{number:064x}".encode()
        entry[46 : 46 + 74] = b"blake3/" + hex[:2] + b"/" + hex
        entries += entry
    whole = data[:start] + listed + entries
    tail = bytearray(data[end : end + 22])
    tail[8:20] = struct.pack("<HHLL", count + 40, count + 40, size + len(entries), start)
    result.write_bytes(whole + tail)
    bad(result, "overlap")


def test_other_files_are_refused(tmp_path, result):
    path = tmp_path / "other.zip"
    for content in (b"", b"text", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), os.urandom(1000)):
        path.write_bytes(content)
        bad(path, "no bundle")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("blake3/00/" + "00" * 32, "hello")
    bad(path, "some other zip")
    with pytest.raises(ka.NotFound):
        ka.verify_bundle(tmp_path / "none.zip")
    os.mkfifo(tmp_path / "pipe")
    bad(tmp_path / "pipe", "no file")
    bad(tmp_path, "no file")


def test_files_cut_anywhere(result, tmp_path):
    whole = result.read_bytes()
    path = tmp_path / "cut.zip"
    for size in sorted({*range(0, len(whole), len(whole) // 23), len(whole) - 1}):
        path.write_bytes(whole[:size])
        bad(path)


def test_flipped_bits_are_found_or_change_nothing(result, tmp_path):
    """What is not found is in what the zip says of itself, as the time of a member."""
    whole = result.read_bytes()
    expected = ka.verify_bundle(result)
    path = tmp_path / "flipped.zip"
    generator = np.random.default_rng(7)
    places = [*generator.integers(0, len(whole), 60), *range(len(whole) - 500, len(whole), 3)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        try:
            found = ka.verify_bundle(path)
        except (ka.BadBundle, ka.StoreTooNew):
            continue
        assert found._replace(path=expected.path) == expected


@pytest.mark.parametrize(
    "sheet",
    [
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"format": "kachery bundle 1"}',
        b'{"format": "kachery bundle 2"}',
        b'{"format": "kachery bundle 1", "about": 3, "asked": [], "members": [], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "asked": [], "members": [], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "about": "x", "asked": [], "members": [], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "asked": [{"uri": 3, "value": ""}], "members": [], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "asked": [{"uri": "file:///etc/passwd", "value": ""}], "members": [], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "asked": [], "members": [["x", NaN, "blake3://"]], "gone": [], "left_out": []}',
        b'{"format": "kachery bundle 1", "about": "", "asked": [], "members": [["x", 1, 7]], "gone": [], "left_out": []}',
    ],
)
def test_sheets_that_say_nonsense(tmp_path, sheet):
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kachery-bundle.json", sheet)
    bad(path)


def test_a_sheet_that_says_something_twice(result):
    content = members(result)
    sheet = content.pop("kachery-bundle.json")
    with zipfile.ZipFile(result, "w") as archive:
        archive.writestr("kachery-bundle.json", sheet.replace(b"{", b'{"about": "fake",', 1))
        for one, data in content.items():
            archive.writestr(one, data)
    bad(result, "twice")


# Feeds


def test_a_feed_of_jobs_goes_along(steps, tmp_path, elsewhere):
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    job.result()
    ka.load_feed("jobs", create=True)
    path = tmp_path / "told.zip"
    ka.bundle(job, path)
    names = members(path)
    assert any(name.endswith("/checkpoint") or "/staged/" in name for name in names)
    elsewhere()
    report = ka.verify_bundle(path)
    assert list(report.in_feeds.values()) == [2]

    def change(content, sheet):
        for name, data in content.items():
            if name.startswith("feeds/"):
                content[name] = data.replace(b"scaled", b"forged")

    bad(rewritten(path, change))


def test_only_the_tiles_that_are_needed_go_along(steps, tmp_path):
    from kachery_tasks.feeds import load_feed

    for n in range(1100):
        steps.total([np.full(1, n)])
    load_feed("jobs", create=True)
    job = steps.total.job([np.full(1, 300)])
    ka.bundle(job, tmp_path / "told.zip")
    names = [name for name in members(tmp_path / "told.zip") if name.startswith("feeds/")]
    assert list(ka.verify_bundle(tmp_path / "told.zip").in_feeds.values()) == [1]
    bundles = [name for name in names if "tile/entries/" in name and ".p/" not in name]
    assert len(bundles) == 2  # that of entry zero, and that of the job; there are four


# Commands


def command(*args, **options):
    code = "import sys; from kachery.cli import run; sys.argv = ['kachery', *sys.argv[1:]]; run()"
    return run_python(code, *args, check=False, **options)


def test_commands(steps, tmp_path, elsewhere):
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    job.result()
    path = tmp_path / "result.zip"
    made = command("bundle", job.id[:12], "-o", path)
    assert made.returncode == 0 and "2 jobs" in made.stdout
    key = elsewhere()
    seen = command("verify", path)
    assert seen.returncode == 0 and f"{key}, whom you do not trust" in seen.stdout
    refused = command("import", path)
    assert refused.returncode == 1 and f"kachery trust add {key}" in refused.stdout
    assert command("trust", "add", key).returncode == 0
    done = command("import", path)
    assert done.returncode == 0 and "imported  2 records" in done.stdout
    path.write_bytes(path.read_bytes()[:-1])
    damaged = command("verify", path)
    assert damaged.returncode == 1 and damaged.stderr.startswith("kachery: ")
    assert command("verify", path, "--all").returncode == 2
    nowhere = command("bundle", done.stdout.split("job://")[1][:64], "-o", tmp_path / "no/x.zip")
    assert nowhere.returncode == 1 and nowhere.stderr.endswith("no/x.zip'\n")


def test_the_file_can_be_read_by_others(result):
    with zipfile.ZipFile(result) as archive:
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED and info.date_time[0] == 1980
            assert stat.S_IMODE(info.external_attr >> 16) == 0o644
        assert archive.namelist()[0] == "kachery-bundle.json"
        assert archive.testzip() is None


# Zones


def test_what_is_only_in_a_zone_is_bundled_from_there(steps, tmp_path, elsewhere, monkeypatch):
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    job.result()
    key = elsewhere()
    trust(key)
    ka.bundle(job.uri, tmp_path / "zone.zip", with_intermediates=True)
    report = ka.verify_bundle(tmp_path / "zone.zip")
    assert report.signers == {key: 2}  # that of the one who made it, not of the one who bundled it
    assert report.gone == ()
    monkeypatch.delenv("KACHERY_ZONE")
    elsewhere("third")
    trust(key)
    assert len(ka.import_bundle(tmp_path / "zone.zip").jobs) == 2
    with ka.using(read_only=True):
        assert steps.load("raw")[-1] == 19_999.0
