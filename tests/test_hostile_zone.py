"""A zone that lies, or is somebody's trap: typed errors, nothing wrong returned, nothing written elsewhere."""

import itertools
import json
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import run_python

import kachery as ka
from kachery_store import Store, transfer
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import (
    BadURI,
    ConfigError,
    DigestMismatch,
    KacheryError,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
)
from kachery_store.local_backend import LocalBackend
from kachery_store.manifest import Manifest, Part
from kachery_store.remote import answers, open_backend, s3
from kachery_store.transfer import manifest_name
from kachery_store.zone import Zone
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks.lookup import lookup
from kachery_tasks.trust import Trust

pytestmark = [
    pytest.mark.filterwarnings("ignore::kachery_store.errors.ZoneWarning"),
    pytest.mark.filterwarnings("ignore::kachery_store.errors.DamagedWarning"),
]

DATE = "Sun, 22 Nov 2026 00:00:00 GMT"


class Liar:
    """A server that answers each request with what `answer(method, path)` gives.

    That is (status, headers, body); a body may be bytes or an iterator of bytes. `heard` has all
    requests, with their headers.
    """

    def __init__(self, answer):
        self.answer = answer
        self.heard = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                liar.heard.append((self.command, self.path, dict(self.headers)))
                status, headers, body = liar.answer(self.command, self.path)
                self.send_response(status)
                headers = dict(headers)
                if isinstance(body, bytes):
                    headers.setdefault("Content-Length", str(len(body)))
                else:
                    headers.setdefault("Connection", "close")
                for name, value in headers.items():
                    self.send_header(name, value)
                with suppress(OSError):
                    self.end_headers()
                    if self.command != "HEAD":
                        for piece in [body] if isinstance(body, bytes) else body:
                            self.wfile.write(piece)
                self.close_connection = True

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def zone(self):
        return ZoneSettings("lab", "s3://lab/x", (("endpoint_url", self.endpoint),)).open()


def there(body, **headers):
    return 200, {"Last-Modified": DATE, "ETag": '"1"', **headers}, body


ABSENT = 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
LAYOUT = there(b'{"kachery": "store", "layout": 1}')


@pytest.fixture(autouse=True)
def impatient(monkeypatch, request):
    """What is asked again is asked again soon; a real server has its time."""
    if "bucket" in request.fixturenames or "s3" in request.fixturenames:
        return
    monkeypatch.setattr(s3, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(s3, "_READ_SECONDS", 2)
    monkeypatch.setattr(answers.Temporary, "tries", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "TOPSECRET" + name[-2:])


def digest_of(data, algorithm="sha1"):
    return Digest(algorithm, hash_buffer(algorithm, data))


def endless(piece=b"x" * (1 << 16)):
    return itertools.repeat(piece)


def files_below(folder):
    return {p for p in folder.rglob("*") if p.is_file()}


WANTED = b"what was stored" * 10
OTHER = b"what somebody else stored" * 10
JOB = "ab" * 32

BODIES = {
    "other bytes": there(b"x" * len(WANTED)),
    "bytes of another object": there(OTHER),
    "nothing": there(b""),
    "one byte more": there(WANTED + b"x"),
    "endless": there(endless()),
    "endless in chunks": there(
        itertools.repeat(b"10000\r\n" + b"x" * 65536 + b"\r\n"), **{"Transfer-Encoding": "chunked"}
    ),
    "too short": there(WANTED[:10], **{"Content-Length": str(len(WANTED))}),
    "a length that is none": there(WANTED, **{"Content-Length": "many"}),
    "a length below nothing": there(WANTED, **{"Content-Length": "-1"}),
    "the beginning": there(WANTED, **{"Content-Length": "10"}),
    "no date": (200, {"ETag": '"1"'}, OTHER),
    "a strange date": (200, {"Last-Modified": "yesterday", "ETag": '"1"'}, OTHER),
    "an endless error": (403, {}, endless()),
    "an endless absence": (404, {}, endless(b"<Error><Code>NoSuchKey</Code><Message>" * 2000)),
    "a failed condition": (412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"),
    "not modified": (304, {}, b""),
    "no status of HTTP": (999, {}, b""),
    "HTML": (403, {}, b"<html>log in please</html>"),
    "orders for a terminal": (
        403,
        {},
        b"<Error><Code>No</Code><Message>" + "\x9b31m\u202e".encode() * 999 + b"</Message></Error>",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_whatever_a_bucket_answers(case, tmp_path):
    """Every kind of request gets the same answer: wrong bytes never come out, nor strange errors."""
    with Liar(lambda method, path: BODIES[case]) as liar:
        digest = digest_of(WANTED)
        before = files_below(tmp_path)
        store = Store(tmp_path / "one", liar.zone(), Trust("lab"))
        store.zone._known_layout = True  # or nothing but that would be asked
        for go in (
            lambda store: store.files.load_bytes(str(digest)),
            lambda store: store.files.load_bytes(str(digest), 0, 5),
            lambda store: store.files.load_file(str(digest)),
            lambda store: store.files.load_file_info(str(digest)),
            lambda store: lookup(store, JOB),
            lambda store: store.jobs.has(JOB),
            lambda store: store.files.store_bytes(OTHER),
            lambda store: store.jobs.create(JOB, b"mine"),
            lambda store: list(store.zone.backend.names("")),
            lambda store: store.zone.backend.replace("x", b"x"),
            lambda store: store.zone.backend.remove("x"),
            lambda store: store.zone.backend.status("x"),
            lambda store: store.zone.backend.quarantine("x"),
        ):
            store.zone._away_until = 0.0
            try:
                found = go(store)
            except KacheryError as error:
                assert str(error).isprintable() and len(str(error)) < 2000
            except ValueError as error:  # a range beyond what the zone says is all
                assert "not within" in str(error)
            else:
                assert found not in (OTHER, OTHER[:5], WANTED + b"x")
        written = files_below(tmp_path) - before
    written -= {tmp_path / "user/identity.json"}  # what is sent is signed
    assert all(path.is_relative_to(tmp_path / "one") for path in written)
    good = {digest_of(OTHER).path, digest_of(WANTED).path}
    found = {str(p.relative_to(tmp_path / "one")) for p in written}
    assert {name for name in found if name.startswith("sha1/")} <= good
    assert not any("partial" in name for name in found)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"\xff\xfe", b"null", b'{"layout": "\x1b[31m"}', b'{"layout": 1e999}']
    + [b"[" * 100_000, b'{"layout": ' + b"9" * 4000 + b"}", b" " * 1_000_000, b"x" * 70_000_000],
    ids=lambda text: repr(text[:12]),
)
def test_a_layout_that_is_none(text, tmp_path):
    def answer(method, path):
        if "layout.json" not in path:
            return there(WANTED)
        return there(text)

    with Liar(answer) as liar:
        store = Store(tmp_path / "one", liar.zone())
        uri = str(digest_of(WANTED))
        with pytest.raises((NotFound, StoreTooNew)) as caught:
            store.files.load_bytes(uri)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 2000
        with suppress(StoreTooNew):  # else work goes on, and it waits
            mine = store.files.store_bytes(b"mine")
            assert store.files.load_bytes(mine) == b"mine"
            assert not store.uplink.outbox.is_empty()


def listed(whole, parts, size=None):
    return Manifest(sum(p.end - p.start for p in parts) if size is None else size, whole, parts)


def manifests():
    whole, part = digest_of(b"whole"), digest_of(b"part")
    one = (Part(0, 10, part),)
    overlapping = (Part(0, 10, part), Part(5, 15, part))
    itself = (Part(0, 5, whole),)
    huge = tuple(Part(20_000_000 * i, 20_000_000 * (i + 1), part) for i in range(50))
    return {
        "another one": listed(digest_of(b"other"), one).to_bytes(),
        "overlapping": listed(whole, overlapping, 15).to_bytes(),
        "itself": listed(whole, itself).to_bytes(),
        "a part that is not there": listed(whole, huge).to_bytes(),
        "larger than its parts": listed(whole, one, 1 << 62).to_bytes(),
        "nothing": listed(whole, ()).to_bytes(),
        "100 MB": b'{"size":0,"sha1":"%s","chunks":[%s' % (whole.hex.encode(), b" " * 100_000_000),
        "50 MB of nesting": b"[" * 50_000_000,
        "no JSON": b"\xff" * 100,
        "negative": b'{"size":-5,"sha1":"%s","chunks":[]}' % whole.hex.encode(),
        "a path": b'{"size":5,"sha1":"%s","chunks":[{"start":0,"end":5,"sha1":"%s"}]}'
        % (whole.hex.encode(), b"../" * 13 + b"x"),
    }


@pytest.mark.parametrize("case", manifests())
def test_manifests_that_lie(case, tmp_path):
    listed, whole = manifests()[case], digest_of(b"whole")

    def answer(method, path):
        if "layout.json" in path:
            return LAYOUT
        if manifest_name(whole) in path and method == "GET":
            return there(listed)
        return ABSENT if method in ("GET", "HEAD") else there(b"")

    with Liar(answer) as liar:
        store = Store(tmp_path / "one", liar.zone())
        for _ in range(2):
            with pytest.raises((NotFound, DigestMismatch)):
                store.files.load_bytes(str(whole))
    assert not any((tmp_path / "one").glob("sha1/**/*"))
    held = sum(p.stat().st_blocks * 512 for p in files_below(tmp_path))
    assert held < 1_000_000


def test_a_manifest_with_parts_of_its_own_name_ends(bucket, tmp_path):
    """A manifest that lists its own digest as a part: the part is looked for as bytes, once."""
    whole = digest_of(b"whole")
    zone = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
    backend = zone.open().backend
    backend.replace(manifest_name(whole), listed(whole, (Part(0, 5, whole),)).to_bytes())
    with pytest.raises(NotFound):
        Store(tmp_path / "one", zone.open()).files.load_bytes(str(whole))


def test_a_stored_blob_is_not_cut_short_by_who_waited_for_it(tmp_path):
    """Two fetch one blob; the zone tells the second one another size."""
    local = LocalBackend(str(tmp_path / "one"))
    digest = digest_of(WANTED)

    def second():
        with transfer._partial(digest, 10, local) as partial:
            partial.is_done(digest)

    with ThreadPoolExecutor(1) as pool:
        with transfer._partial(digest, len(WANTED), local) as partial:
            partial.write(0, WANTED)
            waiting = pool.submit(second)
            while not _waits_for_a_lock():
                pass
            partial.commit(digest)
        waiting.result(30)
    assert local.read(digest.path) == WANTED


def _waits_for_a_lock():
    with open("/proc/locks") as locks:
        return any("->" in line and f" {os.getpid()} " in line for line in locks)


def test_a_part_that_was_damaged_is_stored_again(tmp_path, monkeypatch):
    """As what is kept whole: it was set aside, so whoever has the blob sends it again."""
    monkeypatch.setattr(transfer, "PART_SIZE", 100)
    backend = open_backend(f"memory://{os.urandom(6).hex()}")
    backend.part_size = 100
    one = Store(tmp_path / "one", Zone("lab", backend))
    uri = one.files.store_text("text " * 100)
    (name,) = backend.names("manifests")
    backend.replace(Manifest.from_bytes(backend.read(name)).parts[1].digest.path, b"damage")
    with pytest.raises(DigestMismatch):
        Store(tmp_path / "two", Zone("lab", backend)).files.load_text(uri)
    assert one.files.store_text("text " * 100) == uri
    assert Store(tmp_path / "two", Zone("lab", backend)).files.load_text(uri) == "text " * 100


MEMORY = """
import sys
from kachery_store import Store
from kachery_store.errors import KacheryError
from kachery_store.remote import s3
from kachery_store.zone_settings import ZoneSettings
s3._LONGEST_PAUSE = 0.05
zone = ZoneSettings("lab", "s3://lab/x", (("endpoint_url", sys.argv[1]),))
store = Store(sys.argv[2], zone.open())
store.zone._known_layout = True
try:
    list(store.zone.backend.names(""))  # what is needed for any request is loaded
except KacheryError:
    pass
before = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
for go in (
    lambda: store.files.load_bytes("sha1://" + "ab" * 20),
    lambda: store.jobs.read("ab" * 32),
    lambda: list(store.zone.backend.names("")),
    lambda: store.zone.backend.read("x", 0, 1000),
):
    store.zone._away_until = 0.0
    try:
        print("found", go())
    except KacheryError as error:
        print(type(error).__name__)
print((int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) - before) // 1024)
"""


@pytest.mark.parametrize("status", [200, 403])
def test_a_body_that_never_ends_does_not_fill_the_memory(status, tmp_path):
    with Liar(lambda method, path: (status, there(b"")[1], endless(b"x" * (1 << 20)))) as liar:
        *outcomes, grown = run_python(
            MEMORY, liar.endpoint, tmp_path / "one", env={"PYTHONWARNINGS": "ignore"}
        ).stdout.split()
    assert "found" not in outcomes and len(outcomes) == 4
    assert int(grown) < 400, f"{grown} MB"


def test_a_redirect_is_not_followed(tmp_path):
    with Liar(lambda method, path: there(WANTED)) as other:
        headers = {"Location": f"{other.endpoint}/lab/x", "x-amz-bucket-region": "elsewhere"}
        redirections = iter([(status, headers, b"") for status in (301, 302, 303, 307, 308) * 9])
        with Liar(lambda method, path: next(redirections)) as liar:
            for _ in range(5):
                store = Store(tmp_path / "one", liar.zone())
                with pytest.raises(NotFound):
                    store.files.load_bytes(str(digest_of(WANTED)))
        assert other.heard == []


def test_records_of_other_jobs_are_not_taken(tmp_path, monkeypatch, calls):
    """What a zone has under the name of a job is the record of another one."""

    @ka.task(version="1", ignore="path")
    def square(n, path):
        from conftest import note_call

        note_call(path)
        return n * n

    zone = ZoneSettings("lab", str(tmp_path / "zone"))
    with ka.using(dir=tmp_path / "one", zone=None):
        ids = [square.job(n, calls.path).id for n in (2, 3)]
        assert square(2, calls.path) == 4
        record = (tmp_path / "one" / f"jobs/{ids[0][:2]}/{ids[0]}").read_bytes()
    backend = zone.open().backend
    with ka.using(dir=tmp_path / "two", zone=None):
        pass
    backend.replace(f"jobs/{ids[1][:2]}/{ids[1]}", record)
    from kachery_tasks.settings import Settings, applied

    with applied(Settings(str(tmp_path / "two"), zone)):
        assert square(3, calls.path) == 9


def test_a_record_whose_result_is_lost_in_the_zone_is_replaced(tmp_path, calls):
    """Whoever asks next computes it again, and everybody has it then."""
    import numpy as np
    from conftest import note_call

    from kachery_tasks.settings import Settings, applied

    @ka.task(version="1", ignore="path")
    def made(n, path):
        note_call(path)
        return np.full(20_000, n)

    zone = ZoneSettings("lab", str(tmp_path / "zone"))
    with applied(Settings(str(tmp_path / "one"), zone)):
        made(1, calls.path)
    backend = zone.open().backend
    for name in list(backend.names("blake3")):
        backend.replace(name, b"damage")
    for machine in ("two", "two", "three"):
        with applied(Settings(str(tmp_path / machine), zone)):
            assert made(1, calls.path)[5] == 1
    assert calls.count == 2


def test_pipes_devices_and_folders_in_the_way(tmp_path):
    """A shared folder, where others may put anything under any name."""
    zone = ZoneSettings("lab", str(tmp_path / "zone"))
    for number, make in enumerate((os.mkfifo, os.mkdir, _zero, _loop)):
        data = b"%d" % number
        digest = digest_of(data)
        for name in (digest.path, f"jobs/ab/{JOB}"):
            path = tmp_path / "zone" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
        store = Store(tmp_path / "one", zone.open(), Trust("lab"))
        with pytest.raises(KacheryError):
            store.files.load_bytes(str(digest))
        with pytest.raises(KacheryError):
            store.jobs.read(JOB)
        path = tmp_path / "zone/jobs"
        path.rename(tmp_path / f"jobs{number}")


def _zero(path):
    path.symlink_to("/dev/zero")


def _loop(path):
    path.symlink_to(path)


BAD_URLS = [
    "s3://TOPSECRETid:TOPSECRETkey@bucket/prefix",
    "s3://TOPSECRETid:TOP/SECRET/TOPSECRET@bucket",
    "s3://TOPSECRET@bucket",
    "s3a://:TOPSECRET@bucket",
    "TOPSECRET:TOPSECRET@bucket",
    "s3:/TOPSECRET:TOPSECRET@bucket",
    "https://me:TOPSECRET@host/x",
    "https://host/x?X-Amz-Signature=TOPSECRET",
    "ftp://me:TOPSECRET@host/x",
    "s3://bucket/x#TOPSECRET",
    "s3://bucket/../other",
    "s3://../x",
    "s3://buc..ket/x",
    "s3://bucket/a\0b",
    "s3://bucket/a\nb",
    "s3://bu\ncket/a",
    "s3://buck et",
    "s3://" + "b" * 10_000,
    "s3://bucket/" + "p" * 10_000,
    "s3://bucket/" + "p" * 900,
    "/a/../b",
    "/a\0b",
    "/a\nb",
    "/" + "a" * 10_000,
    "file:///a/../../b",
    "memory://a/../b",
]


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: repr(url[:30]))
def test_urls_that_are_refused(url, store_dir, monkeypatch):
    with pytest.raises(BadURI) as caught:
        ZoneSettings("lab", url).open()
    _harmless(str(caught.value))
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text(f"[zones.lab]\nurl = {json.dumps(url)}\n")
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    if not (url.startswith("s3://") and "TOPSECRET" not in url):
        with pytest.raises(ConfigError, match=r"zones\.lab\.url") as caught:
            ka.store_text("x")
        _harmless(str(caught.value))
    with pytest.raises(KacheryError) as caught:
        ka.load_text("sha1://" + "ab" * 20)
    _harmless(str(caught.value))
    assert not (store_dir / "outbox").exists()


def _harmless(message):
    assert "TOPSECRET" not in message and len(message) < 1000 and message.isprintable()


@pytest.mark.parametrize("url", [url for url in BAD_URLS if "TOPSECRET" in url])
def test_credentials_are_not_written_down(url, store_dir, monkeypatch):
    from click.testing import CliRunner

    from kachery.zone_commands import zone_commands

    monkeypatch.setenv("KACHERY_DIR", str(store_dir))
    for arguments in ([url], ["s3://lab", "--endpoint-url", url.replace("s3", "https")]):
        done = CliRunner().invoke(zone_commands, ["add", "lab", *arguments])
        assert isinstance(done.exception, KacheryError)
        _harmless(str(done.exception))
        assert not store_dir.exists()


@pytest.mark.parametrize(
    "endpoint", ["http://me:TOPSECRET@host", "http://host?x=TOPSECRET", "a\0b"]
)
def test_endpoints_that_are_refused(endpoint, store_dir, monkeypatch):
    with pytest.raises(BadURI) as caught:
        ZoneSettings("lab", "s3://lab", (("endpoint_url", endpoint),)).open()
    _harmless(str(caught.value))
    store_dir.mkdir()
    table = f'[zones.lab]\nurl = "s3://lab"\nendpoint_url = {json.dumps(endpoint)}\n'
    (store_dir / "kachery.toml").write_text(table)
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    with pytest.raises(ConfigError, match=r"zones\.lab\.endpoint_url") as caught:
        ka.store_text("x")
    _harmless(str(caught.value))


@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "a/b", "a\0b", "a\nb", "x" * 10_000, "", " ", "a\udcffb", "ä\x9b"]
)
def test_zone_names_that_are_refused(name, tmp_path, store_dir, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        ZoneSettings(name, str(tmp_path / "zone")).open()
    _harmless(str(caught.value))
    if name and "\0" not in name:
        monkeypatch.setenv("KACHERY_ZONE", name)
        with pytest.raises(ConfigError) as caught:
            ka.store_text("x")
        _harmless(str(caught.value))
    if "\udcff" not in name:
        store_dir.mkdir()
        table = f"[zones.{json.dumps(name)}]\nurl = {json.dumps(str(tmp_path / 'zone'))}\n"
        (store_dir / "kachery.toml").write_text(table)
        monkeypatch.setenv("KACHERY_ZONE", "lab")
        with pytest.raises(ConfigError) as caught:
            ka.store_text("x")
        _harmless(str(caught.value))


def test_credentials_are_in_no_error_warning_or_file(tmp_path, store_dir, monkeypatch, recwarn):
    """A server that repeats what it was sent; the secret is not sent, and is nowhere."""

    def answer(method, path):
        said = json.dumps(liar.heard[-1]).encode()
        return 403, {}, b"<Error><Code>No</Code><Message>%s</Message></Error>" % said

    with Liar(answer) as liar:
        store = Store(store_dir, liar.zone())
        store.files.store_text("x")
        store.jobs.create(JOB, b"record")
        told = [str(warning.message) for warning in recwarn]
        for go in (lambda: list(store.zone.backend.names("")), lambda: store.uplink.push()):
            with pytest.raises(StoreUnavailable) as caught:
                go()
            told.append(str(caught.value))
        told.append(repr(store))
    assert told and "TOPSECRETEY" not in "".join(told)  # of the secret key
    for path in files_below(tmp_path):
        assert b"TOPSECRET" not in path.read_bytes()


@pytest.mark.parametrize("megabytes", [1, 21])
def test_eight_threads_use_one_zoned_store(tmp_path, bucket, megabytes):
    """They store and load the same small and large things at once."""
    zone = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
    large = os.urandom(1 << 20) * megabytes
    one = Store(tmp_path / "one", zone.open())

    def store(n):
        uris = [one.files.store_text(f"text {i}") for i in range(10)]
        return [*uris, one.files.store_bytes(large)]

    with ThreadPoolExecutor(8) as pool:
        (uris,) = {tuple(found) for found in pool.map(store, range(8))}
    two = Store(tmp_path / "two", zone.open())

    def load(n):
        assert [two.files.load_text(uri) for uri in uris[:-1]] == [f"text {i}" for i in range(10)]
        assert two.files.load_bytes(uris[-1]) == large
        return two.jobs.create(JOB, b"%d" % n)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(load, range(8))) == 1
    assert list((tmp_path / "two/tmp").iterdir()) == []
    assert one.jobs.read(JOB) == two.jobs.read(JOB)


def _in_child(queue, store, uri):
    queue.put((store.files.load_text(uri), store.files.store_text("of the child")))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_a_forked_child_uses_the_zone(tmp_path, request, kind):
    options, url = (), str(tmp_path / "zone")
    if kind == "bucket":
        bucket = request.getfixturevalue("bucket")
        url, options = bucket.url, (("endpoint_url", bucket.endpoint),)
    zone = ZoneSettings("lab", url, options)
    uri = Store(tmp_path / "one", zone.open()).files.store_text("of the parent")
    two = Store(tmp_path / "two", zone.open())
    two.files.store_text("so that connections are open")
    with two.uplink._sending:  # a thread of the parent sends what waits, at the moment of the fork
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_in_child, args=(queue, two, uri))
        child.start()
        text, stored = queue.get(timeout=60)
        child.join(60)
    assert child.exitcode == 0 and text == "of the parent"
    assert Store(tmp_path / "three", zone.open()).files.load_text(stored) == "of the child"


def _push_in_child(queue, store):
    queue.put(store.uplink.push())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(tmp_path):
    store = Store(tmp_path / "one", ZoneSettings("lab", str(tmp_path / "zone")).open())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with store.uplink._sending:
        child = context.Process(target=_push_in_child, args=(queue, store))
        child.start()
        try:
            assert queue.get(timeout=60) == []
        finally:
            child.kill()
            child.join()
