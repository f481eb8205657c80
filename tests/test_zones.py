"""Zones: a store that several machines share, with the local store in front of it."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_python

import kachery as ka
from kachery_store import Store
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import (
    ConfigError,
    DamagedWarning,
    DigestMismatch,
    NotFound,
    StoreTooNew,
    ZoneWarning,
)
from kachery_store.manifest import Manifest
from kachery_store.remote import open_backend, s3
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks.carrying import pull, push


@pytest.fixture(params=["bucket", "folder"])
def lab(request, tmp_path, monkeypatch):
    """A zone named lab, in a bucket and in a folder, in force; what it is made of."""
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        toml, settings = (
            bucket.toml,
            ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),)),
        )
    else:
        toml, settings = f'url = "{tmp_path}/zone"\n', ZoneSettings("lab", f"{tmp_path}/zone")
    (tmp_path / "kachery.toml").write_text(f"[zones.lab]\n{toml}")
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    return settings


@pytest.fixture
def machine(tmp_path, lab):
    """A function that gives a store of another machine, with the same zone behind it."""
    return lambda name: Store(tmp_path / name, lab.open())


JOBS = """
import numpy as np, kachery as ka, sys
@ka.task(version="1")
def small(n): print("ran", n); return {"n": n}
@ka.task(version="1")
def large(n): print("ran", n); return [np.arange(n), "text"]
if __name__ == "__main__":
    print(small(1), len(large(7_000_000)[0]), small(2)["n"])
"""


def on_machine(tmp_path, name, code=JOBS, **options):
    folder = tmp_path / "project"
    folder.mkdir(exist_ok=True)
    (folder / "lab_jobs.py").write_text(JOBS)
    return run_python(
        code, env={"KACHERY_DIR": str(tmp_path / name), "PYTHONPATH": str(folder)}, **options
    )


RUN = "import lab_jobs; print(lab_jobs.small(1), len(lab_jobs.large(7_000_000)[0]))"


def test_a_result_of_another_machine_is_a_hit(tmp_path, lab):
    first = on_machine(tmp_path, "one", RUN).stdout
    second = on_machine(tmp_path, "two", RUN).stdout
    assert first == "ran 1\nran 7000000\n{'n': 1} 7000000\n"
    assert second == "{'n': 1} 7000000\n"


def test_files_are_in_both_and_found_from_elsewhere(tmp_path, lab, machine):
    text, large = "in the zone", os.urandom(1 << 16) * 700
    one, two = machine("one"), machine("two")
    uri = one.files.store_text(text, label="a.txt")
    uri_of_large = one.files.store_bytes(large)
    assert two.files.load_text(uri) == text
    assert two.files.load_bytes(uri_of_large) == large
    path = two.files.load_file(uri_of_large)
    assert path.startswith(str(tmp_path / "two")) and os.path.getsize(path) == len(large)
    assert Store(tmp_path / "two").files.load_bytes(uri_of_large) == large  # without the zone


@pytest.mark.parametrize("size", [0, 1, 19_999_999, 20_000_000, 20_000_001, 60_000_000])
def test_golden_sizes_in_a_bucket(tmp_path, bucket, size):
    """Whole up to 20,000,000 bytes; above that parts, and the published manifest that lists them."""
    zone = ZoneSettings("z", bucket.url, (("endpoint_url", bucket.endpoint),))
    data = bytes(size - size % 1000) + b"x" * (size % 1000)
    digest = Digest("sha1", hash_buffer("sha1", data))
    Store(tmp_path / "one", zone.open()).files.store_bytes(data)
    backend = zone.open().backend
    sizes = {name: status.size for name, status in backend.entries("")}
    if size <= 20_000_000:
        assert sizes[digest.path] == size
        assert set(sizes) == {digest.path, "layout.json"}
    else:
        name = f"manifests/sha1/{digest.hex[:2]}/{digest.hex}"
        listed = backend.read(name)
        parts = Manifest.from_bytes(listed).parts
        assert [p.end - p.start for p in parts][:-1] == [20_000_000] * (len(parts) - 1)
        as_file = Digest("sha1", hash_buffer("sha1", listed)).path
        assert set(sizes) == {name, as_file, "layout.json", *(p.digest.path for p in parts)}
    two = Store(tmp_path / "two", zone.open())
    assert two.blobs.size(digest) == size
    assert two.files.load_bytes(str(digest)) == data


def test_a_range_fetches_only_the_parts_it_needs(tmp_path, bucket):
    zone = ZoneSettings("z", bucket.url, (("endpoint_url", bucket.endpoint),))
    data = np.random.default_rng(1).bytes(50_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    uri = Store(tmp_path / "one", zone.open()).files.store_file(path, manifest=True)
    backend = zone.open().backend
    (name,) = backend.names("manifests")
    first, second, third = Manifest.from_bytes(backend.read(name)).parts
    for part in (first, third):
        backend.remove(part.digest.path)
    two = Store(tmp_path / "two", zone.open())
    assert two.files.load_bytes(uri, 25_000_000, 25_000_100) == data[25_000_000:25_000_100]
    backend.remove(second.digest.path)
    assert two.files.load_bytes(uri, 30_000_000, 30_000_100) == data[30_000_000:30_000_100]
    with pytest.raises(NotFound):
        two.files.load_bytes(uri, 10, 20)


def test_without_the_zone_work_goes_on_and_is_sent_later(tmp_path, lab, bucket_or_folder_away):
    away, back = bucket_or_folder_away
    away()
    done = on_machine(tmp_path, "one", RUN, check=False)
    assert done.stdout == "ran 1\nran 7000000\n{'n': 1} 7000000\n"
    assert done.stderr.count("ZoneWarning") == 1 and "push" in done.stderr
    back()
    sent = command("push", KACHERY_DIR=str(tmp_path / "one"))
    assert sent.returncode == 0, sent.stderr
    assert not any(files for *_, files in os.walk(tmp_path / "one/outbox"))
    assert on_machine(tmp_path, "two", RUN).stdout == "{'n': 1} 7000000\n"


@pytest.fixture
def bucket_or_folder_away(lab, tmp_path, monkeypatch):
    """Functions that put the zone out of reach, and back. Who is refused, asks again soon."""
    monkeypatch.setattr(s3, "_LONGEST_PAUSE", 0.3)
    toml = tmp_path / "kachery.toml"
    text = toml.read_text()

    def away():
        if lab.url.startswith("s3://"):
            toml.write_text(text.replace(dict(lab.options)["endpoint_url"], "http://127.0.0.1:9"))
        else:
            os.rename(lab.url, lab.url + ".away") if os.path.exists(lab.url) else None
            (tmp_path / "zone").write_text("a file in the way")

    def back():
        toml.write_text(text)
        if not lab.url.startswith("s3://"):
            os.unlink(lab.url)
            os.rename(lab.url + ".away", lab.url) if os.path.exists(lab.url + ".away") else None

    return away, back


def test_when_the_zone_is_back_what_waits_is_sent_by_itself(tmp_path, lab, bucket_or_folder_away):
    away, back = bucket_or_folder_away
    away()
    with pytest.warns(ZoneWarning, match="zone lab.*Work goes on"):
        one = Store(tmp_path / "one", next_settings(lab).open())
        uri = one.files.store_text("waits")
    back()
    again = Store(tmp_path / "one", lab.open())
    again.files.store_text("something else")  # the first word from the zone
    for thread in pushing_threads():
        thread.join(60)
    assert Store(tmp_path / "two", lab.open()).files.load_text(uri) == "waits"
    assert again.uplink.outbox.is_empty()


def test_a_file_that_may_be_in_the_zone_is_not_said_to_be_nowhere(
    tmp_path, lab, bucket_or_folder_away, monkeypatch
):
    away, back = bucket_or_folder_away
    uri = Store(tmp_path / "one", lab.open()).files.store_text("in the zone")
    away()
    with ka.using(dir=tmp_path / "two"), pytest.warns(ZoneWarning):
        with pytest.raises(ka.OutOfReach, match="zone lab cannot be reached"):
            ka.load_text(uri)
    back()
    with ka.using(dir=tmp_path / "three"):
        assert ka.load_text(uri) == "in the zone"
        assert ka.load_text("sha1://" + "00" * 20) is None


def next_settings(lab):
    from kachery_store.zone_settings import zone_in_force

    return zone_in_force("/nowhere")


def pushing_threads():
    import threading

    return [thread for thread in threading.enumerate() if thread.name == "kachery-push"]


def test_damage_in_the_zone_is_found_and_set_aside(tmp_path, lab, machine):
    one, two = machine("one"), machine("two")
    uri = one.files.store_text("intact" * 100)
    digest = Digest("sha1", uri.partition("://")[2])
    backend = lab.open().backend
    backend.replace(digest.path, b"damage" * 100)
    with pytest.raises(DigestMismatch, match=r"zone at .*moved to"):
        two.files.load_text(uri)
    with pytest.raises(NotFound):
        two.files.load_text(uri)
    one.blobs.put(digest, b"intact" * 100, durable=True)
    assert two.files.load_text(uri) == "intact" * 100


def test_local_damage_is_mended_from_the_zone(tmp_path, lab, machine):
    one = machine("one")
    uri = one.files.store_text("intact" * 100)
    path = one.files.load_file(uri)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"X")
    with pytest.warns(DamagedWarning):
        assert one.files.load_text(uri) == "intact" * 100


def test_a_manifest_that_lies_is_found_out(tmp_path, bucket):
    zone = ZoneSettings("z", bucket.url, (("endpoint_url", bucket.endpoint),))
    data, other = (np.random.default_rng(n).bytes(30_000_000) for n in (1, 2))
    one = Store(tmp_path / "one", zone.open())
    uri, uri_of_other = one.files.store_bytes(data), one.files.store_bytes(other)
    backend = zone.open().backend
    digest, digest_of_other = (Digest("sha1", u.partition("://")[2]) for u in (uri, uri_of_other))
    names = [f"manifests/sha1/{d.hex[:2]}/{d.hex}" for d in (digest, digest_of_other)]
    listed = backend.read(names[1]).replace(digest_of_other.hex.encode(), digest.hex.encode())
    backend.replace(names[0], listed)
    two = Store(tmp_path / "two", zone.open())
    with pytest.raises(DigestMismatch, match="manifest"):
        two.files.load_bytes(uri)
    backend.replace(names[0], backend.read(names[1]))
    with pytest.raises(DigestMismatch, match="manifest"):
        two.files.load_bytes(uri)
    assert not any("partial" in name for name in os.listdir(tmp_path / "two/tmp"))


def test_the_first_result_in_the_zone_is_everybodys(tmp_path, lab, machine):
    """Two machines computed one job without knowing of each other."""
    one, two = machine("one"), machine("two")
    assert one.jobs.create("ab" * 32, b"first")
    assert not two.jobs.create("ab" * 32, b"second")
    assert two.jobs.read("ab" * 32) == b"first"
    apart = Store(tmp_path / "three")
    apart.jobs.create("ab" * 32, b"third")
    three = machine("three")
    from kachery_store.outbox import Item

    three.uplink.outbox.add(Item("jobs", "ab" * 32), durable=False)
    assert three.uplink.push() == []
    assert three.jobs.read("ab" * 32) == b"first"
    assert [three.differing.read(name) for name in three.differing.names()] == [b"third"]


def test_push_and_pull_bring_all_that_a_job_needs(tmp_path, lab, project, store_dir):
    (project / "things.py").write_text(JOBS)
    import things

    with ka.using(zone=None):
        value = things.large(7_000_000)
        uri = ka.store_text("only here")
        job = things.large.job(7_000_000)
        job_id = job.id
    assert push(job, uri).things >= 4
    with ka.using(dir=tmp_path / "elsewhere"):
        assert pull(job_id, uri).things >= 4
    with ka.using(dir=tmp_path / "elsewhere", zone=None):
        assert ka.load_text(uri) == "only here"
        assert things.large.job(7_000_000).cached
        again = things.large(7_000_000)
    assert np.array_equal(again[0], value[0]) and again[1] == "text"
    with ka.using(dir=tmp_path / "third"), pytest.raises(NotFound):
        pull("job://" + "00" * 32)
    with ka.using(zone=None), pytest.raises(ConfigError, match="no zone is in force"):
        push(uri)


def test_a_zone_of_a_later_kachery_is_not_touched(tmp_path, lab):
    backend = lab.open().backend
    backend.replace("layout.json", b'{"kachery": "store", "layout": 99}')
    with pytest.raises(StoreTooNew, match="layout 99"):
        Store(tmp_path / "one", lab.open()).files.store_text("x")


def test_read_only_zones_are_only_read(tmp_path, lab):
    uri = Store(tmp_path / "one", lab.open()).files.store_text("x")
    reader = Store(tmp_path / "two", lab._replace(read_only=True).open())
    assert reader.files.load_text(uri) == "x"
    before = set(lab.open().backend.names(""))
    reader.files.store_text("y")
    assert set(lab.open().backend.names("")) == before
    assert not os.path.exists(tmp_path / "two/outbox")


def test_who_may_only_read_is_served(tmp_path, bucket, s3, monkeypatch):
    """That something cannot be written there is no reason not to read."""
    settings = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
    uris = [
        Store(tmp_path / "one", settings.open()).files.store_text(f"text {n}") for n in range(3)
    ]
    for name, value in s3.environment("reader").items():
        monkeypatch.setenv(name, value)
    reader = Store(tmp_path / "two", settings.open())
    assert reader.files.load_text(uris[0]) == "text 0"
    with pytest.warns(
        ZoneWarning, match="AccessDenied.*read all the same.*read_only = true"
    ) as told:
        for n in range(3):
            reader.files.store_text(f"own {n}")
            assert reader.files.load_text(uris[n]) == f"text {n}"
    assert len(told) == 1
    assert len(reader.uplink.outbox.items()) == 3
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    Store(tmp_path / "two", settings.open()).uplink.push()
    assert Store(tmp_path / "three", settings.open()).files.load_text(
        reader.files.store_text("own 2")
    )


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("", "has no url"),
        ("url = 3", "zones.lab.url is text"),
        ('url = "/x"\nsecret = "abc"', "credentials do not belong"),
        ('url = "/x"\nanon = "yes"', "true or false"),
        ('url = "/x"\ncolour = "red"', "colour is not known"),
        ('url = "/x"\nexpires = "soon"', "expires"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_named(store_dir, monkeypatch, table, complaint):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text(f"[zones.lab]\n{table}\n")
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    with pytest.raises(ConfigError, match=complaint) as caught:
        ka.store_text("x")
    assert "kachery.toml" in str(caught.value) and "abc" not in str(caught.value)


def test_a_zone_that_is_not_configured(monkeypatch):
    monkeypatch.setenv("KACHERY_ZONE", "nowhere")
    with pytest.raises(ConfigError, match=r"no zone 'nowhere'.*kachery zone add nowhere"):
        ka.store_text("x")
    with pytest.raises(ConfigError), ka.using(zone="elsewhere"):
        pass


@pytest.mark.parametrize("variable", ["KACHERY_API_KEY", "KACHERY_BASE_URL"])
@pytest.mark.parametrize("zone", ["", "scratch"])
def test_the_published_service_is_not_silently_ignored(monkeypatch, variable, zone):
    monkeypatch.setenv(variable, "https://somewhere")
    monkeypatch.setenv("KACHERY_ZONE", zone)
    with pytest.warns(ZoneWarning, match=f"{variable} is set, but.*zone add") as caught:
        uri = ka.store_text("x")
        assert ka.load_text(uri) == "x"
    assert len(caught) == 1


def test_a_shared_folder_is_a_zone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KACHERY_MULTI_USER", "1")
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "shared"))
    code = "import kachery as ka; print(ka.get_kachery_dir()); print(ka.store_text('x'))"
    where, uri = run_python(code).stdout.split()
    assert where == str(tmp_path / "home/.kachery")
    digest = Digest("sha1", uri.partition("://")[2])
    assert (tmp_path / "shared" / digest.path).read_text() == "x"
    assert os.stat(tmp_path / "shared/sha1").st_mode & 0o2070 == 0o2070
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "home/.kachery"))
    with pytest.raises(ConfigError, match="must name the folder that the users share"):
        ka.store_text("x")


def command(*args, **env):
    return subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "kachery"), *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_zone_commands(bucket, store_dir):
    assert "no zones" in command("zone", "list").stderr
    added = command(
        "zone", "add", "lab", bucket.url, "--endpoint-url", bucket.endpoint, "--expires", "9d"
    )
    assert added.returncode == 0, added.stderr
    assert command("zone", "add", "lab", bucket.url).returncode == 1
    assert command("zone", "add", "../x", bucket.url).returncode == 1
    assert command("zone", "add", "bad", "/x", "--expires", "soon").returncode == 1
    listed = command("zone", "list", KACHERY_ZONE="lab").stdout
    assert listed == f"* {'lab':16} {bucket.url} (expires after 9 days)\n"
    checked = command("zone", "check", "lab")
    assert checked.returncode == 0, checked.stderr
    for word in (
        "reading      works",
        "writing      works",
        "create       yes",
        "swap         yes",
    ):
        assert word in checked.stdout
    assert "writersecret" not in checked.stdout + (store_dir / "kachery.toml").read_text()
    assert list(open_backend(bucket.url, {"endpoint_url": bucket.endpoint}).names("")) == []


def test_settings_of_zones_travel():
    settings = ZoneSettings("lab", "s3://x", (("region", "eu"), ("anon", True)), True, 3.0)
    assert pickle.loads(pickle.dumps(settings)) == settings and hash(settings)


def test_workers_use_the_zone_of_the_client(lab, client, tmp_path, project, s3):
    (project / "things.py").write_text(JOBS)
    client.run(lambda path: sys.path.insert(0, path), str(project))
    client.run(lambda of_s3: os.environ.update(of_s3), s3.environment())
    import things

    with ka.using(dir=tmp_path / "shared by nobody"):
        assert things.small.submit(5).result() == {"n": 5}
    with ka.using(dir=tmp_path / "elsewhere", client=None):
        assert things.small.job(5).cached


def test_what_is_only_in_a_zone_that_is_away_is_not_taken_for_lost(
    tmp_path, lab, bucket_or_folder_away, project
):
    """The record is here, its blob only there: the record stays."""
    away, _ = bucket_or_folder_away
    (project / "things.py").write_text(JOBS)
    import things

    with ka.using(dir=tmp_path / "one"):
        things.large(7_000_000)
    with ka.using(dir=tmp_path / "two"):
        job_id = things.large.job(7_000_000).id
        assert things.large.job(7_000_000).cached  # which brings the record
    away()
    with ka.using(dir=tmp_path / "two"), pytest.warns(ka.KacheryWarning):
        assert len(things.large(7_000_000)[0]) == 7_000_000
    assert os.path.exists(tmp_path / "two/jobs" / job_id[:2] / job_id)
    assert not os.path.exists(tmp_path / "two/quarantine")


def test_push_does_not_take_damage_for_the_first_result(tmp_path, lab, project):
    (project / "things.py").write_text(JOBS)
    import things

    with ka.using(zone=None):
        things.small(1)
        job = things.small.job(1)
        job_id = job.id
    lab.open().backend.replace(f"jobs/{job_id[:2]}/{job_id}", b"garbage")
    push(job)
    with ka.using(zone=None):
        assert things.small.job(1).cached


def test_refresh_replaces_in_the_zone(tmp_path, lab, project):
    (project / "things.py").write_text(JOBS)
    import things

    with ka.using(dir=tmp_path / "one"):
        things.small(1)
        before = things.small.job(1).record.started
        things.small.refresh(1)
        after = things.small.job(1).record.started
    with ka.using(dir=tmp_path / "two"):
        assert before < after == things.small.job(1).record.started


def test_a_record_of_a_later_kachery_in_the_zone_is_a_miss(tmp_path, lab, project):
    (project / "things.py").write_text(JOBS)
    import things

    from kachery_tasks.sealed import seal

    job_id = things.small.job(1).id
    path = f"jobs/{job_id[:2]}/{job_id}"
    lab.open().backend.replace(path, seal("kachery record", 99, b"of a later version"))
    with pytest.warns(ZoneWarning, match="is not used"):
        assert things.small(1) == {"n": 1}
