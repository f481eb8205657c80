"""Arrays in chunks that last: lost and damaged chunks of results, collection, sessions, repair."""

import os
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import note_call, run_python, write

import kachery
import kachery.cli
import kachery_store.gc
from kachery_store import renewal, uplink, zone_gc
from kachery_store.zone_plan import ZonePolicy
from kachery_tasks import chunk_places, keeping, zone_keeping
from kachery_tasks.chunk_values import known_of
from kachery_tasks.chunked import writing_session
from kachery_tasks.settings import current

zarr = pytest.importorskip("zarr")
da = pytest.importorskip("dask.array")
import dask  # noqa: E402


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def noted(block, path=None):
    if block.size:  # Dask looks at the type of what it makes of nothing
        note_call(path)
    return block + 1


@kachery.task(ignore=("path",), version="1")
def made(path, count=5):
    return da.arange(count * 10, chunks=10).map_blocks(noted, path=path, dtype=int)


def chunk_file(array, *index):
    opened, _, path = known_of(array)
    return Path(opened.store.backend.path(opened.array(path).blob(index)[0].path))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def as_in_a_new_process():
    chunk_places.forget_opened()


# Results that have lost a chunk


def test_a_hit_computes_the_chunk_that_is_lost(calls):
    chunk_file(made(calls.path), 3).unlink()
    as_in_a_new_process()
    assert calls.count == 5
    with pytest.warns(kachery.DamagedWarning, match="lost its result"):
        again = made(calls.path)
    assert calls.count == 6
    assert np.array_equal(again.compute(), np.arange(50) + 1)
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1) and calls.count == 6


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
@pytest.mark.parametrize("how", ["damaged", "lost"])
def test_what_was_met_damaged_is_computed_by_the_next_call(calls, how):
    """Also by this process, which has seen the array whole, and whoever it was that met it."""
    array = made(calls.path)
    file = chunk_file(array, 2)
    flip(file) if how == "damaged" else file.unlink()
    code = (
        "import kachery, sys; kachery.open_dask(sys.argv[1])[20].compute(scheduler='synchronous')"
    )
    done = run_python(code, f"blake3://{known_of(array)[0].address}", check=False)
    assert "chunk c/2 of blake3://" in done.stderr and "called again" in done.stderr
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1)
    assert calls.count == 6
    assert not [one for one in Path(current().root, "lost").rglob("*") if one.is_file()]


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_two_damaged_chunks_are_met_one_by_one(calls):
    array = made(calls.path)
    files = [chunk_file(array, 1), chunk_file(array, 4)]
    for file in files:
        flip(file)
    for index in (10, 40):
        with pytest.raises(kachery.DigestMismatch, match=f"chunk c/{index // 10} "):
            array[index].compute()
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1) and calls.count == 7


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_what_is_left_is_checked_before_it_is_counted_on(calls):
    array = made(calls.path)
    chunk_file(array, 0).unlink()
    flip(chunk_file(array, 3))
    as_in_a_new_process()
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1) and calls.count == 7


def test_who_forgets_a_job_has_all_of_it_computed_again(calls):
    job = made.job(calls.path)
    job.result()
    job.forget()
    assert made(calls.path)[7].compute() == 8 and calls.count == 10
    made.refresh(calls.path)
    assert calls.count == 15


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_manifest_of_a_result_that_lies(calls):
    """Its blobs are intact, and not those of the content."""
    from kachery_store.zarr.manifest import Manifest

    array = made(calls.path)
    address, refs = known_of(array)[0].address, current().store.arrays
    manifest = Manifest.from_bytes(refs.read(address), address)
    table = manifest.tables[""]
    swapped = table.entries[40:80] + table.entries[:40] + table.entries[80:]
    lie = manifest._replace(tables={"": table._replace(entries=swapped)})
    refs.replace(address, lie.to_bytes())
    as_in_a_new_process()
    with pytest.raises(kachery.DigestMismatch, match="chunk c/0 "):
        made(calls.path)[0].compute()
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1)


@kachery.task(version="1")
def several(path):
    import xarray as xr

    lazy = da.arange(50, chunks=10).map_blocks(noted, path=path, dtype=int)
    return {"both": [lazy, lazy + 1], "data": xr.Dataset({"a": ("x", lazy * 2)})}


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_arrays_anywhere_in_a_result(calls):
    pytest.importorskip("xarray")
    chunk_file(several(calls.path)["data"]["a"].data, 4).unlink()
    as_in_a_new_process()
    before = calls.count
    again = several(calls.path)
    assert np.array_equal(again["data"]["a"].values, (np.arange(50) + 1) * 2)
    assert calls.count == before + 1  # once, though three arrays are made of it


@kachery.task(version="1")
def total(array):
    return int(array.sum().compute())


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_lost_input_is_computed_on_the_way(calls):
    first = made.job(calls.path)
    chunk_file(first.result(), 1).unlink()
    as_in_a_new_process()
    assert total.job(made.job(calls.path)).result() == sum(range(1, 51))


def test_damage_that_a_worker_meets(client, project, calls):
    write(
        project / "damageonworkers.py",
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import dask.array as da, kachery
        from conftest import note_call

        def noted(block, path=None):
            if block.size:
                note_call(path)
            return block + 1

        @kachery.task(ignore=("path",))
        def made(path):
            return da.arange(50, chunks=10).map_blocks(noted, path=path, dtype=int)
        """,
    )
    client.run(lambda folder: __import__("sys").path.insert(0, folder), str(project))
    import damageonworkers

    with dask.config.set(scheduler=None):
        array = damageonworkers.made.submit(calls.path).result()
        assert calls.count == 5
        flip(chunk_file(array, 3))
        with pytest.raises(kachery.DigestMismatch, match="chunk c/3 of"):
            array.compute()
        with pytest.warns(kachery.DamagedWarning, match="lost its result"):
            again = damageonworkers.made(calls.path)
        assert np.array_equal(again.compute(), np.arange(50) + 1)
    assert calls.count == 6


# With a zone


@pytest.fixture
def lab(tmp_path):
    """Two machines with one folder as their zone."""
    for machine in ("here", "there"):
        (tmp_path / machine).mkdir()
        (tmp_path / machine / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')

    def using(machine):
        return kachery.using(dir=tmp_path / machine, zone="lab")

    return using


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_chunk_that_the_zone_has_lost_is_computed_after_it_was_met(lab, tmp_path, calls):
    with lab("here"):
        name = chunk_file(made(calls.path), 3).relative_to(tmp_path / "here")
    (tmp_path / "zone" / name).unlink()
    with lab("there"):
        array = made(calls.path)
        assert calls.count == 5  # the zone is not asked for each chunk
        assert array[0].compute() == 1
        with pytest.raises(kachery.NotFound, match="chunk c/3 of"):
            array.compute()
    as_in_a_new_process()
    with lab("there"):
        assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1)
    assert calls.count == 10  # what it has not stored itself it does not know
    assert (tmp_path / "zone" / name).exists()


def test_a_chunk_that_is_lost_here_comes_from_the_zone(lab, calls):
    with lab("here"):
        chunk_file(made(calls.path), 3).unlink()
        as_in_a_new_process()
        assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1)
    assert calls.count == 5


# Sessions of writing, while garbage is collected


def grow_older(folder, days):
    """Make files look as if they had been written some days ago."""
    then = time.time() - days * 86_400
    for path in Path(current().root, folder).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def session_of(rows=20):
    """A session in which an array of two chunks, too large for their notes, was begun."""
    session = writing_session()
    array = zarr.create_array(session, shape=(2 * rows, 100), chunks=(rows, 100), dtype="f8")
    array[:rows] = np.random.default_rng(1).random((rows, 100))
    return session, array


def test_a_session_keeps_what_was_written_in_it():
    session, array = session_of()
    grow_older("blake3", 3)
    grow_older("sessions", 3)
    kachery.gc(orphans=True, files=True, max_size=0, older_than=0, grace=0)
    array[20:] = 1.5
    found = kachery.open_zarr(f"blake3://{session.commit()}")
    assert np.array_equal(found[:20], np.random.default_rng(1).random((20, 100)))
    assert (found[20:] == 1.5).all()


def test_a_session_that_nobody_went_on_with_is_collected():
    session, array = session_of()
    grow_older("blake3", 8)
    grow_older("sessions", 8)
    plan = kachery.gc(dry_run=True).plan
    assert [one.session for one in plan.going] == [session.session]
    kachery.gc()
    notes = Path(current().root, "sessions", session.session)
    assert not [path for path in notes.rglob("*") if path.is_file()]
    with pytest.raises(kachery.NotFound, match="was collected"):
        session.commit()
    with pytest.raises(kachery.NotFound, match="was collected"):
        array[20:] = 1.5
    grow_older("blake3", 8)
    kachery.gc(orphans=True)
    assert not [path for path in Path(current().root, "blake3").rglob("*") if path.is_file()]
    grow_older("sessions", 100)
    kachery.gc()
    kachery.gc()
    assert not [path for path in Path(current().root, "sessions").rglob("*") if path.is_file()]


def test_a_session_that_somebody_goes_on_with_stays():
    session, array = session_of()
    grow_older("blake3", 8)
    grow_older("sessions", 8)
    real = kachery_store.gc.close

    def close(backend, name, notes):
        array[20:] = 1.5
        return real(backend, name, notes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kachery_store.gc, "close", close)
        assert kachery.gc(orphans=True, grace=0).spared >= 2
    found = kachery.open_zarr(f"blake3://{session.commit()}")
    assert np.array_equal(found[:20], np.random.default_rng(1).random((20, 100)))


def test_writers_while_another_process_collects(tmp_path):
    """A session, an array of Dask, one of NumPy: none loses a chunk, whatever is collected."""
    code = """
    import kachery, sys, threading
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    rounds = 0
    while not ended.is_set():
        kachery.gc(orphans=True, max_items=0, grace=0)
        rounds += 1
        if rounds == 1:
            print("begun", flush=True)
    print(rounds)
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as collector:
        assert collector.stdout.readline() == "begun\n"
        session = writing_session()
        array = zarr.create_array(session, shape=(100, 2000), chunks=(1, 2000), dtype="f8")
        values = np.random.default_rng(2).random((100, 2000))
        for row in range(100):
            array[row] = values[row]
        lazy = da.from_array(values * 2, chunks=(1, 2000))
        uris = [f"blake3://{session.commit()}"]
        uris += [kachery.store_zarr(lazy), kachery.store_zarr(values * 3, chunks=(1, 2000))]
        rounds = int(collector.communicate()[0])
    assert rounds > 1
    for times, uri in enumerate(uris, 1):
        assert np.array_equal(kachery.open_zarr(uri)[...], values * times)


# Collection in a zone


@kachery.task(version="1")
def filled(value, rows=2):
    return da.full((rows * 10, 100), value, chunks=(10, 100)) + np.arange(rows * 10)[:, None]


def in_zone(tmp_path, folder):
    root = tmp_path / "zone" / folder
    return {path.name: path for path in root.rglob("*") if path.is_file()}


def age_zone(tmp_path, days, *, only_young=False):
    now = time.time()
    then = now - days * 86_400
    for folder in ("blake3", "arrays", "jobs", "code"):
        for path in in_zone(tmp_path, folder).values():
            if not only_young or path.stat().st_mtime > now - 3600:
                os.utime(path, (then, then))


def collect(**policy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kachery.ZoneWarning)  # of a short grace period
        return zone_keeping.gc("lab", ZonePolicy(**policy))


def address(array):
    return known_of(array)[0].address


def test_a_result_goes_from_a_zone_with_its_array(lab, tmp_path):
    with lab("here"):
        old = address(filled(1.0))
        uri = kachery.store_zarr(np.arange(5000.0), chunks=1000)
        age_zone(tmp_path, 10)
        young = address(filled(2.0))
        done = collect(older_than=9 * 86_400)
    assert done.records == 1
    assert in_zone(tmp_path, "arrays").keys() == {young, uri[9:]}
    assert old not in in_zone(tmp_path, "blake3")
    with lab("there"):
        assert kachery.open_zarr(uri)[4999] == 4999
        assert filled(2.0)[19, 0].compute() == 21 and kachery.stats().hits
    with lab("here"):
        before = len(in_zone(tmp_path, "blake3"))
        collect(max_size=0, grace=0)
    assert in_zone(tmp_path, "arrays").keys() == {uri[9:]}
    assert len(in_zone(tmp_path, "blake3")) == before - 4  # three of the array, and the environment


def test_arrays_that_users_stored_go_from_a_zone_as_files(lab, tmp_path):
    with lab("here"):
        uri = kachery.store_zarr(np.arange(5000.0), chunks=1000)
        kept = kachery.store_zarr(np.arange(5000.0) + (np.arange(5000) > 999), chunks=1000)
        zone_keeping.pin("lab", kept)
        age_zone(tmp_path, 10)
        collect(older_than=9 * 86_400, orphans=True)
        assert len(in_zone(tmp_path, "arrays")) == 2
        collect(older_than=11 * 86_400, files=True)
        assert len(in_zone(tmp_path, "arrays")) == 2
        collect(older_than=9 * 86_400, files=True)
        assert in_zone(tmp_path, "arrays").keys() == {kept[9:]}
    with lab("there"):
        assert kachery.open_zarr(kept)[...].sum() == np.arange(5000).sum() + 4000
        with pytest.raises(kachery.NotFound):
            kachery.open_zarr(uri)
    with lab("here"):
        zone_keeping.unpin("lab", kept)
        collect(max_size=0, files=True, grace=0)
    assert not in_zone(tmp_path, "arrays") and not in_zone(tmp_path, "blake3")


def test_arrays_go_from_a_zone_until_it_is_small_enough(lab, tmp_path):
    with lab("here"):
        uris = []
        for number in range(3):
            values = np.random.default_rng(number).random(50_000)
            uris.append(kachery.store_zarr(values, chunks=10_000, codecs=None))
            age_zone(tmp_path, 7 - 2 * number, only_young=True)
        collect(max_size=1_000_000, files=True)
    assert in_zone(tmp_path, "arrays").keys() == {uri[9:] for uri in uris[1:]}


def test_an_array_that_no_record_has_goes_from_a_zone_as_an_orphan(lab, tmp_path):
    with lab("here"):
        job = filled.job(1.0)
        job.result()
        job.forget()
        age_zone(tmp_path, 10)
        collect()
        assert len(in_zone(tmp_path, "arrays")) == 1
        collect(orphans=True)
    assert not in_zone(tmp_path, "arrays") and not in_zone(tmp_path, "blake3")


@kachery.task(version="1")
def filled_too(value):
    return filled(value)


def test_who_stores_an_array_again_has_it_stay_in_the_zone(lab, tmp_path):
    """Its manifest was there, old, and of a result that goes."""
    with lab("here"):
        found = address(filled(1.0))
        age_zone(tmp_path, 10)
        assert address(filled_too(1.0)) == found
        young = time.time() - 3600
        about = filled.job(1.0).record.environment.hex()
        blobs = [path for name, path in in_zone(tmp_path, "blake3").items() if name != about]
        files = [*in_zone(tmp_path, "arrays").values(), *blobs]
        assert all(path.stat().st_mtime > young for path in files)
        os.utime(in_zone(tmp_path, "jobs")[filled.job(1.0).id], (0, 0))
        age_zone(tmp_path, 2)
        assert collect(older_than=9 * 86_400).records == 0
    with lab("there"):
        assert filled_too(1.0)[0, 0].compute() == 1


def test_an_array_that_comes_into_use_while_a_zone_is_collected_stays(lab, tmp_path, monkeypatch):
    with lab("here"):
        found = address(filled(1.0))
        age_zone(tmp_path, 10)
        real, said = zone_gc._Sweep._mark_what_came, []

        def store_it(sweep):
            if not said:
                said.append(address(filled_too(1.0)))
            real(sweep)

        monkeypatch.setattr(zone_gc._Sweep, "_mark_what_came", store_it)
        monkeypatch.setattr(renewal, "await_verdict", lambda *_: None)  # it is ourselves
        collect(older_than=9 * 86_400)
    assert said == [found]
    with lab("there"):
        assert filled_too(1.0)[0, 0].compute() == 1 and kachery.stats().hits


# Verification and repair


def command(*words):
    done = CliRunner().invoke(kachery.cli.cli, list(words))
    assert not done.exception or isinstance(done.exception, SystemExit), done.output
    return done


@pytest.mark.parametrize("how", ["damaged", "lost"])
def test_verify_and_repair_name_chunks_of_arrays_that_users_stored(how):
    uri = kachery.store_zarr(np.arange(5000.0), chunks=1000)
    file = chunk_file(kachery.open_zarr(uri), 2)
    flip(file) if how == "damaged" else file.unlink()
    done = command("verify")
    assert done.exit_code == 1 and f"(chunk c/2 of {uri})" in done.output, done.output
    done = command("repair")
    assert done.exit_code == 1 and f"lost: chunk c/2 of {uri}; store the array" in done.output
    assert kachery.open_zarr(uri)[:2000].sum() == sum(range(2000))  # the others are there
    kachery.store_zarr(np.arange(5000.0), chunks=1000)
    assert command("verify").exit_code == 0 and command("repair").exit_code == 0


@pytest.mark.parametrize("how", ["damaged", "lost"])
def test_repair_forgets_a_result_that_has_lost_a_chunk(calls, how):
    file = chunk_file(made(calls.path), 2)
    flip(file) if how == "damaged" else file.unlink()
    assert "(chunk c/2 of blake3://" in command("verify").output
    assert keeping.repair().forgotten == [f"{made.job(calls.path).uri} (test_array_keeping:made)"]
    as_in_a_new_process()
    assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1) and calls.count == 6
    assert command("verify").exit_code == 0


def test_repair_fetches_chunks_and_manifests_from_the_zone(lab, calls):
    with lab("here"):
        array = made(calls.path)
        uri = kachery.store_zarr(np.arange(5000.0), chunks=1000)
        root = Path(current().root)
        flip(chunk_file(array, 2))
        flip(chunk_file(kachery.open_zarr(uri), 4))
        manifest = root / f"arrays/{address(array)[:2]}/{address(array)}"
        flip(manifest)
        assert len(command("verify").output.splitlines()) >= 4
        done = keeping.repair()
        assert len(done.fetched) == 3 and not done.forgotten and not done.lost
        assert manifest.exists()
    with kachery.using(dir=root, zone=None):
        assert np.array_equal(made(calls.path).compute(), np.arange(50) + 1) and calls.count == 5
        assert kachery.open_zarr(uri)[4999] == 4999


def test_repair_leaves_in_the_zone_what_was_never_needed_here(lab, calls):
    with lab("here"):
        made(calls.path)
    with lab("there"):
        assert made(calls.path)[0].compute() == 1
        assert command("verify").exit_code == 0
        assert keeping.repair() == ([], [], [], [], 0)
        assert not chunk_file(made(calls.path), 3).exists()


LOST = ["chunk", "damaged chunk", "manifest", "damaged manifest"]


def lose(tmp_path, lost, array, uri):
    """Have the zone lose something of an array."""
    name = uri[9:] if "manifest" in lost else chunk_file(array, 1).name
    file = in_zone(tmp_path, "arrays" if "manifest" in lost else "blake3")[name]
    flip(file) if "damaged" in lost else file.unlink()


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("whose", ["result", "user"])
def test_zone_repair_sends_what_a_zone_has_lost_of_arrays(lab, tmp_path, calls, lost, whose):
    with lab("here"):
        array = made(calls.path)
        uri = f"blake3://{address(array)}"
        if whose == "user":
            assert kachery.store_zarr(array) == uri
            made.job(calls.path).forget()
        lose(tmp_path, lost, array, uri)
        if "chunk" in lost:
            assert f"(chunk c/1 of {uri})" in command("verify", "--zone", "lab").output
        assert len(zone_keeping.verification("lab").run().damaged) == (lost != "manifest")
        done = zone_keeping.repair("lab")
        if (lost, whose) == ("manifest", "user"):  # nothing tells that there was one
            assert done == ([], [], [], [], 0)
            return
        assert len(done.fetched) == 1 and not done.forgotten
        assert not done.lost and not zone_keeping.verification("lab").run().damaged
    with lab("there"):
        assert kachery.open_zarr(uri)[49] == 50 and made(calls.path)[49].compute() == 50
    assert calls.count == (5 if whose == "result" else 10)


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("whose", ["result", "user"])
def test_zone_repair_where_nobody_has_what_is_lost(lab, tmp_path, calls, lost, whose):
    with lab("here"):
        array = made(calls.path)
        uri = f"blake3://{address(array)}"
        if whose == "user":
            kachery.store_zarr(array)
            made.job(calls.path).forget()
        lose(tmp_path, lost, array, uri)
    with lab("there"):
        command("verify", "--zone", "lab")
        done = command("repair", "--zone", "lab")
        if whose == "result":
            assert "1 jobs forgotten, 0 files lost" in done.output, done.output
            assert not in_zone(tmp_path, "jobs")
        elif "chunk" in lost:
            assert f"lost: chunk c/1 of {uri}; store the array" in done.output
        elif "damaged" in lost:
            assert f"lost: {uri}; store the file again" in done.output


def test_notes_of_arrays_grow_old(calls):
    chunk_file(made(calls.path), 1).unlink()
    code = "import kachery, sys; kachery.open_dask(sys.argv[1]).compute(scheduler='synchronous')"
    run_python(code, f"blake3://{address(made(calls.path))}", check=False)
    notes = [path for one in ("lost", "made") for path in Path(current().root, one).rglob("*")]
    assert len([path for path in notes if path.is_file()]) == 2
    kachery.gc()
    assert all(path.exists() for path in notes)
    grow_older("lost", 100)
    grow_older("made", 100)
    kachery.gc()
    assert not [path for path in notes if path.is_file()]


def test_an_array_that_lacks_a_chunk_in_a_zone_is_not_pinned_there(lab, tmp_path):
    with lab("here"):
        uri = kachery.store_zarr(np.arange(5000.0), chunks=1000)
        name = chunk_file(kachery.open_zarr(uri), 3).name
        zone_keeping.pin("lab", uri)
        zone_keeping.unpin("lab", uri)
        in_zone(tmp_path, "blake3")[name].unlink()
        with pytest.raises(kachery.NotFound, match=f"lacks blake3://{name}"):
            zone_keeping.pin("lab", uri)
        assert not zone_keeping.pins("lab")


def test_the_zone_is_asked_once_about_what_was_just_stored(lab, monkeypatch):
    """A session of many chunks is committed without a request for each; one that is old is not."""
    asked = []
    real = uplink.Uplink.send_unless_there
    monkeypatch.setattr(
        uplink.Uplink, "send_unless_there", lambda self, one: (asked.append(one), real(self, one))
    )
    with lab("here"):
        session, _ = session_of()
        session.commit()
        assert not asked
        session, _ = session_of()
        grow_older("sessions", 2)
        session.commit()
    assert len(asked) == 1


def test_what_the_zone_has_collected_is_sent_again_with_a_session(lab, tmp_path):
    with lab("here"):
        session, _ = session_of()
        grow_older("sessions", 2)
        for path in in_zone(tmp_path, "blake3").values():
            path.unlink()
        uri = f"blake3://{session.commit()}"
    with lab("there"):
        found = kachery.open_zarr(uri)[:20]
    assert np.array_equal(found, np.random.default_rng(1).random((20, 100)))
