"""Killed at any moment while something is stored, pushed or pulled: nothing wrong, nothing lost."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import count, run_python
from faultproxy import FaultProxy

from kachery_store import Store
from kachery_store.digest import make_digest
from kachery_store.transfer import STREAMS, has
from kachery_store.zone_settings import ZoneSettings

# A process that has everything imported and forks the children that work, and are killed. What a child
# was told that it is stored, it writes down in a file; a child that is killed is gone at once.
NURSERY = """
import io, json, os, random, select, signal, sys
import numpy as np
import kachery as ka
from kachery_store import Digest, Store
from kachery_store.digest import hash_buffer
from kachery_store.doctor import examine
from kachery_store.errors import KacheryError
from kachery_store.uri import parse_uri
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks.lookup import lookup
from kachery_tasks.carrying import pull, push
from kachery_tasks.holdings import check_entry
from kachery_tasks.settings import Settings, applied, store_at
from kachery_store.signing import Signer
Signer(bytes(32))  # so that the library is here before the clock runs
if sys.argv[1] == "bucket":
    import s3fs, aiobotocore.session, kachery_store.remote.s3

@ka.task(version="1")
def made(seed, i):
    return {"i": i, "array": np.full(10_000, i + seed, dtype="f8")}

def text_of(seed, i):
    return f"{seed} {i} " * (1, 100, 30_000)[i % 3]

LARGE = 20_500_000

def large_of(seed):
    return random.Random(seed).randbytes(1000) * (LARGE // 1000)

class Acknowledged:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def __call__(self, *words):
        os.write(self.fd, (json.dumps(words) + "\\n").encode())

def zone_of(job):
    return ZoneSettings("lab", job["url"], tuple(map(tuple, job["options"])))

def content(kind, seed, i):
    return large_of(seed).decode("latin1") if kind == "large" else text_of(seed, i)

def data_of(kind, seed, i):
    return large_of(seed) if kind == "large" else text_of(seed, i).encode()

def things_of(job):
    seed = job["seed"]
    for i in range(job["things"]):
        yield ("task", "text")[i % 2], seed, i
        if i == 3 and job["large"]:
            yield "large", seed, i

def stored(kind, seed, i):
    if kind == "task":
        assert made(seed, i)["i"] == i
        return made.job(seed, i).uri
    if kind == "large":
        return ka.store_bytes(large_of(seed))
    return ka.store_text(text_of(seed, i))

def do_store(job, acknowledge):
    with applied(Settings(job["root"], zone_of(job))):
        for thing in things_of(job):
            acknowledge("both", *thing, stored(*thing))

def do_push(job, acknowledge):
    with applied(Settings(job["root"], None)):
        for thing in things_of(job):
            acknowledge("here", *thing, stored(*thing))
    with applied(Settings(job["root"], zone_of(job))):
        for thing in things_of(job):
            push(uri := uri_of(*thing))
            acknowledge("both", *thing, uri)

def do_pull(job, acknowledge):
    with applied(Settings(job["root"] + ".first", zone_of(job))):
        for thing in things_of(job):
            stored(*thing)
    armed(job)
    with applied(Settings(job["root"], zone_of(job))):
        for thing in things_of(job):
            pull(uri := uri_of(*thing))
            acknowledge("both", *thing, uri)

def uri_of(kind, seed, i):
    if kind == "task":
        return made.job(seed, i).uri
    return f"sha1://{hash_buffer('sha1', data_of(kind, seed, i))}"

def do_check(job, acknowledge):
    wrong = []
    said = [json.loads(line) for line in open(job["told"])] if os.path.exists(job["told"]) else []
    for file in ("sha1", "blake3"):
        wrong += wrong_files(job["root"], file)
    check(wrong, "here", job["root"], None, said)
    for finding in list(examine(job["root"], check_entry, stale_after=0)):
        if finding.fix:
            finding.fix()
    left = os.listdir(job["root"] + "/tmp") if os.path.isdir(job["root"] + "/tmp") else []
    wrong += [f"left behind: {name}" for name in left]
    away = zone_of(job)
    check(wrong, "zone", job["root"] + ".fresh", away, [one for one in said if one[0] == "both"])
    backend = away.open().backend
    for name in [*backend.names("sha1"), *backend.names("blake3")]:
        algorithm, hex = name.split("/")[0], name.split("/")[-1]
        if hash_buffer(algorithm, backend.read(name)) != hex:
            wrong.append(f"in the zone: {name}")
    acknowledge(len(said), wrong)

def wrong_files(root, algorithm):
    for folder, _, names in os.walk(f"{root}/{algorithm}"):
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                if hash_buffer(algorithm, file.read()) != name:
                    yield f"{algorithm} {name}"

def check(wrong, where, root, zone, said):
    with applied(Settings(root, zone)):
        for _, kind, seed, i, uri in said:
            try:
                if kind == "task":
                    job = made.job(seed, i)
                    if lookup(store_at(root, zone), job.id) is None:
                        wrong.append(f"{where}: lost {kind} {i}")
                    elif not np.array_equal(job.result()["array"], np.full(10_000, i + seed)):
                        wrong.append(f"{where}: wrong {kind} {i}")
                elif ka.load_bytes(uri) != data_of(kind, seed, i):
                    wrong.append(f"{where}: wrong {kind} {i}")
            except KacheryError as error:
                wrong.append(f"{where}: {kind} {i}: {error}")

CALLS = "open write link unlink rename replace fsync pwrite ftruncate utime mkdir chmod".split()
passed = 0
real = {name: getattr(os, name) for name in CALLS}

def armed(job):
    # Be killed at the n-th call to the system, or to the bucket: before it, or after it.
    def counting(call):
        def counted(*args, **given):
            global passed
            passed += 1
            if passed == job["die_at"] and job["before"]:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **given)
            if passed == job["die_at"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        return counted
    for name in CALLS:
        setattr(os, name, counting(real[name]))
    if job["url"].startswith("s3"):
        from kachery_store.remote.s3 import S3Backend
        S3Backend._call, S3Backend._get = counting(S3Backend._call), counting(S3Backend._get)

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        status = 1
        try:
            if job["do"] in ("store", "push"):
                armed(job)
            {"store": do_store, "push": do_push, "pull": do_pull, "check": do_check}[job["do"]](
                job, Acknowledged(job["told" if job["do"] != "check" else "answer"])
            )
            if job["do"] != "check":
                with open(job["answer"], "w") as file:
                    file.write(str(passed))
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    if job["seconds"] is not None:
        watch = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
        select.select([watch] if watch else [], [], [], job["seconds"])
        os.kill(child, signal.SIGKILL)
        if watch:
            os.close(watch)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    def __init__(self, kind, zone, folder):
        self.zone = zone
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NURSERY, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._process:
            self._process.stdin.close()
        assert self._process.returncode == 0

    def run(self, do, root, seed, things, *, large=False, die_at=0, before=True, seconds=None):
        """Have a child do something; how it ended, and what it answered."""
        answer = self.folder / f"answer.{os.urandom(4).hex()}"
        job = {
            **{"do": do, "root": str(root), "seed": seed, "things": things, "large": large},
            **{"die_at": die_at, "before": before, "seconds": seconds},
            **{"url": self.zone.url, "options": self.zone.options},
            **{"told": f"{root}.told", "answer": str(answer)},
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return status, answer.read_text() if answer.exists() else None


@pytest.fixture(params=["folder", "bucket"])
def zone(request, tmp_path):
    if request.param == "folder":
        return ZoneSettings("lab", str(tmp_path / "zone"))
    bucket = request.getfixturevalue("bucket")
    return ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))


@pytest.mark.timeout(count(3000, 600))
@pytest.mark.parametrize("do", ["store", "push", "pull"])
def test_killed_at_any_moment(zone, tmp_path, do):
    """Half of the rounds end at a random call to the system or the bucket, half at a random time."""
    in_bucket = zone.url.startswith("s3://")
    rounds = count(20, 3) if in_bucket else count(100, 20)
    things = 4 if in_bucket else 8
    rng = random.Random(do)
    killed = acknowledged = 0
    with Nursery("bucket" if in_bucket else "folder", zone, tmp_path) as nursery:
        began = time.monotonic()
        status, calls = nursery.run(do, tmp_path / "whole", 1000, things)
        took = time.monotonic() - began
        assert status == 0
        assert check(nursery, tmp_path / "whole", 1000, things) > 0
        for number in range(4 * rounds):
            if number >= rounds and killed > rounds // 4 and acknowledged:
                break
            root, large = tmp_path / f"store{number}", in_bucket and number % 3 < 2
            how = (
                {"die_at": rng.randrange(1, int(calls)), "before": rng.random() < 0.5}
                if number % 2
                else {"seconds": rng.random() * took}
            )
            status, _ = nursery.run(do, root, number, things, large=large, **how)
            assert status in (0, -signal.SIGKILL)
            killed += status != 0
            acknowledged += check(nursery, root, number, things)
            if number % 10 == 1 or large:  # whoever comes next finishes it
                assert nursery.run(do, root, number, things, large=large)[0] == 0
                check(nursery, root, number, things)
    assert killed > rounds // 4 and acknowledged


def check(nursery, root, seed, things):
    """Nothing that is stored is wrong, and nothing that was acknowledged is lost; how much was."""
    status, answer = nursery.run("check", root, seed, things)
    assert status == 0
    said, wrong = json.loads(answer)
    assert wrong == []
    return said


LARGE = 100_000_000  # five parts

CARRY = """
import sys
from kachery_store import Store
from kachery_store.digest import make_digest
from kachery_store.outbox import Item
from kachery_store.zone_settings import ZoneSettings
zone = ZoneSettings("lab", sys.argv[3], (("endpoint_url", sys.argv[4]),))
store = Store(sys.argv[2], zone.open())
digest = make_digest("sha1", sys.argv[5])
if sys.argv[1] == "push":
    store.uplink.send_now(Item("sha1", digest.hex))
else:
    store.blobs.path(digest)
"""


@pytest.mark.parametrize("do", ["push", "pull"])
def test_a_large_transfer_goes_on_where_it_was_killed(bucket, tmp_path, do):
    """At most one part per stream travels twice."""
    zone = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
    data = np.random.default_rng(0).bytes(LARGE)
    source = Store(tmp_path / "one", zone.open() if do == "pull" else None)
    uri = source.files.store_bytes(data)
    root = tmp_path / ("one" if do == "push" else "two")
    with FaultProxy(bucket.endpoint, share=0) as proxy:
        arguments = [do, root, bucket.url, proxy.endpoint, uri.partition("://")[2]]
        child = subprocess.Popen([sys.executable, "-c", CARRY, *map(str, arguments)])

        def kill_in_the_middle(_):
            if len(_parts(proxy)) == 5:  # so that one at least has been dealt with
                child.kill()

        proxy.listener = kill_in_the_middle
        assert child.wait(120) == -signal.SIGKILL
        proxy.listener = None
        if do == "push":  # the manifest comes last
            assert not has(zone.open().backend, make_digest("sha1", arguments[-1]))
        run_python(CARRY, *arguments)
        travelled = Counter(_parts(proxy))
    assert len(travelled) == 5
    assert sum(travelled.values()) <= 5 + STREAMS
    fresh = Store(tmp_path / "two", zone.open())
    assert fresh.files.load_bytes(uri) == data
    assert not any(name.endswith("partial") for name in os.listdir(tmp_path / "two/tmp"))


def _parts(proxy):
    return [
        one.path
        for one in proxy.heard
        if (one.method, one.sent > 10_000_000) == ("PUT", True)
        or (one.method, one.got > 10_000_000) == ("GET", True)
    ]


SAME = """
import os, sys
from kachery_store import Store
from kachery_store.zone_settings import ZoneSettings
options = (("endpoint_url", sys.argv[3]),) if sys.argv[3] else ()
store = Store(sys.argv[1], ZoneSettings("lab", sys.argv[2], options).open())
store.zone.prepare(writing=True)
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[4])):
    store.files.store_text(f"blob {i}" * 50)
print("done", flush=True)
"""


@pytest.mark.timeout(count(1500, 600))
@pytest.mark.parametrize("together", [True, False], ids=["one machine", "sixteen machines"])
def test_sixteen_processes_store_the_same(zone, tmp_path, together):
    """On one machine, or each with a local store of its own: each blob is stored once."""
    blobs = count(300, 30)
    in_bucket = zone.url.startswith("s3://")
    if not in_bucket:
        _sixteen(tmp_path, zone.url, "", blobs, together)
        return
    with FaultProxy(dict(zone.options)["endpoint_url"], share=0) as proxy:
        _sixteen(tmp_path, zone.url, proxy.endpoint, blobs, together)
        created = Counter(
            one.path for one in proxy.heard if (one.method, one.status) == ("PUT", 200)
        )
    of_blobs = {path: n for path, n in created.items() if "/sha1/" in path}
    assert len(of_blobs) == blobs and set(of_blobs.values()) == {1}


def _sixteen(tmp_path, url, endpoint, blobs, together):
    code = textwrap.dedent(SAME)
    processes = count(16, 4) if endpoint else 16
    with ThreadPoolExecutor(processes) as pool:
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, tmp_path / f"m{0 if together else i}", url, endpoint]
                + [str(blobs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(processes)
        ]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        ended = list(pool.map(lambda child: child.communicate("go\n"), children))
    assert [child.returncode for child in children] == [0] * processes
    assert ended == [("done\n", "")] * processes
    for folder in {tmp_path / f"m{0 if together else i}" for i in range(processes)}:
        assert len([p for p in (folder / "sha1").rglob("*") if p.is_file()]) == blobs
        assert list((folder / "tmp").iterdir()) == []
        assert not (folder / "outbox").exists()
    if not endpoint:
        assert len([p for p in (tmp_path / "zone/sha1").rglob("*") if p.is_file()]) == blobs
        assert list((tmp_path / "zone/tmp").iterdir()) == []
