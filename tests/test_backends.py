"""Every backend keeps the promises of kachery_store.backend, and says what it cannot do."""

import os
import stat
import subprocess
import sys
import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from kachery_store.errors import BadURI, StoreUnavailable, Unsupported, UnverifiedWarning
from kachery_store.local_backend import LocalBackend
from kachery_store.remote import open_backend
from kachery_store.testing import BackendTests


class TestFolder(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return LocalBackend(str(tmp_path / "store"))


class TestFileURL(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return open_backend(f"file://{tmp_path}/store")


class TestMemory(BackendTests):
    @pytest.fixture
    def backend(self):
        return open_backend(f"memory://{uuid.uuid4().hex}/deep")


class TestBucket(BackendTests):
    @pytest.fixture
    def backend(self, bucket):
        return open_backend(f"{bucket.url}/deep/er", {"endpoint_url": bucket.endpoint})


class Odd(MemoryFileSystem):
    protocol = "odd"
    store = {}
    pseudo_dirs = [""]


class TestAnyOther(BackendTests):
    @pytest.fixture
    def backend(self):
        fsspec.register_implementation("odd", Odd, clobber=True)
        with pytest.warns(UnverifiedWarning, match="not been tested with odd://"):
            return open_backend(f"odd://{uuid.uuid4().hex}")


def test_what_a_bucket_can_do_is_tried_out(bucket):
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    assert all(backend.capabilities)
    assert list(backend.names("")) == []


def test_a_bucket_without_a_prefix(s3, bucket):
    name = s3.make_bucket(f"test-{uuid.uuid4().hex[:12]}")
    backend = open_backend(f"s3://{name}", {"endpoint_url": bucket.endpoint})
    assert backend.create("a/b", b"1", durable=True) and not backend.create(
        "a/b", b"2", durable=True
    )
    assert backend.create("c", b"22", durable=True)
    assert {n: status.size for n, status in backend.entries("")} == {"a/b": 1, "c": 2}
    assert list(backend.names("a")) == ["a/b"] and backend.read("a/b") == b"1"
    s3.remove_bucket(name)


def test_what_others_cannot_do_is_refused(tmp_path):
    for backend in (LocalBackend(str(tmp_path / "s")), open_backend("memory://nothing-there")):
        assert not backend.capabilities.swap
        with pytest.raises(Unsupported, match="condition"):
            backend.swap("x", b"", "1")


@pytest.mark.parametrize("url", ["nothing", "://", "s3://", "s3:///x", "", "nosuchscheme://x"])
@pytest.mark.filterwarnings("ignore::kachery_store.errors.UnverifiedWarning")
def test_what_is_no_place_for_a_store(url):
    with pytest.raises(BadURI, match=r"bucket|fsspec"):
        open_backend(url).read("x")


def test_rights(bucket, s3, monkeypatch):
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    backend.create("x", b"1", durable=True)
    for name, value in s3.environment("reader").items():
        monkeypatch.setenv(name, value)
    reader = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    assert reader.read("x") == b"1"
    for refused in (
        lambda: reader.create("y", b"1", durable=True),
        lambda: reader.remove("x"),
        lambda: reader.quarantine("x"),
    ):
        with pytest.raises(StoreUnavailable, match=r"AccessDenied.*credentials"):
            refused()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreUnavailable, match=r"SignatureDoesNotMatch.*profile"):
        open_backend(bucket.url, {"endpoint_url": bucket.endpoint}).read("x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreUnavailable, match=r"credentials.*anon = true"):
        open_backend(bucket.url, {"endpoint_url": bucket.endpoint}).read("x")


def test_nobody_there():
    backend = open_backend(
        "s3://lab", {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}
    )
    with pytest.raises(StoreUnavailable, match=r"s3://lab cannot be reached.*endpoint_url"):
        backend.read("x")


def test_a_child_that_was_forked_uses_the_bucket(bucket):
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    backend.create("x", b"of the parent", durable=True)
    child = os.fork()
    if child == 0:
        ok = backend.read("x") == b"of the parent" and backend.create("y", b"1", durable=True)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert backend.read("y") == b"1"


def test_a_shared_folder_is_open_to_the_group(tmp_path):
    """Whatever the umask of the one who writes; the files themselves are read-only."""
    code = (
        "import os, sys; os.umask(0o077); from kachery_store.remote import open_backend;"
        f"open_backend({str(tmp_path / 'shared')!r}).create('sha1/ab/cd', b'x', durable=True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for folder in ("", "sha1", "sha1/ab", "tmp"):
        mode = stat.S_IMODE(os.stat(tmp_path / "shared" / folder).st_mode)
        assert mode & 0o2070 == 0o2070, folder
    assert stat.S_IMODE(os.stat(tmp_path / "shared/sha1/ab/cd").st_mode) == 0o444
