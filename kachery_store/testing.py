"""What every backend must do, as tests: for those who bring a backend of their own.

    class TestMine(BackendTests):
        @pytest.fixture
        def backend(self):
            yield MyBackend("mine://somewhere-empty")

The tests want `pytest`. Where a capability is missing, they check that it is refused by name.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from .backend import Backend
from .errors import NotFound, Unsupported

__all__ = ["BackendTests"]

_WRITERS = 8


class BackendTests:
    """Tests of a backend; a subclass has the fixture `backend`, which gives an empty one."""

    def test_create_and_read(self, backend: Backend) -> None:
        """What was created is read, whole and in ranges, also nothing at all."""
        assert backend.create("a/b/c", b"0123456789", durable=True)
        assert backend.create("a/empty", b"", durable=False)
        assert backend.read("a/b/c") == b"0123456789"
        assert backend.read("a/empty") == b""
        assert backend.read("a/b/c", 3) == b"3456789"
        assert backend.read("a/b/c", 3, 5) == b"34"
        assert backend.read("a/b/c", 0, 1) == b"0"
        assert backend.read("a/b/c", 8, 100) == b"89"
        assert backend.read("a/b/c", 10, 20) == b""
        assert backend.read("a/b/c", 5, 5) == b""

    def test_any_buffer_is_bytes(self, backend: Backend) -> None:
        """A memoryview of anything contiguous is as good as bytes."""
        whole = bytearray(os.urandom(1000))
        assert backend.create("view", memoryview(whole)[100:900], durable=False)
        assert backend.read("view") == bytes(whole[100:900])

    def test_the_first_writer_wins(self, backend: Backend) -> None:
        """A name that is taken stays what it is, also if somebody writes the same again."""
        assert backend.create("x", b"first", durable=True)
        assert not backend.create("x", b"second", durable=True)
        assert not backend.create("x", b"first", durable=False)
        assert backend.read("x") == b"first"

    def test_one_of_many_writers_wins(self, backend: Backend) -> None:
        """Of writers that come at the same time one is told that it was the first, and it was."""
        if not backend.capabilities.create:
            return  # it does not say that it can
        for attempt in range(3):
            barrier = threading.Barrier(_WRITERS)
            name, bodies = f"race/{attempt}", [bytes([n]) * 70_000 for n in range(_WRITERS)]

            def write(body: bytes, name: str = name, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                return backend.create(name, body, durable=False)

            with ThreadPoolExecutor(_WRITERS) as pool:
                won = list(pool.map(write, bodies))
            assert won.count(True) == 1
            assert backend.read(name) == bodies[won.index(True)]

    def test_readers_see_all_or_nothing(self, backend: Backend) -> None:
        """While something is replaced, readers see the old or the new, never a mixture."""
        backend.replace("y", b"a" * 300_000)
        stop = threading.Event()
        seen = []

        def read() -> None:
            while not stop.is_set():
                seen.append(set(backend.read("y")))

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for letter in b"bcdefgh":
                backend.replace("y", bytes([letter]) * 300_000)
            stop.set()
            for reader in readers:
                reader.result()
        assert all(len(one) == 1 for one in seen)
        assert backend.read("y") == b"h" * 300_000

    def test_status(self, backend: Backend) -> None:
        """The size is that of the bytes, and the version another one after a change."""
        assert backend.status("z") is None
        backend.create("z", b"123", durable=False)
        before = backend.status("z")
        backend.replace("z", b"1234")
        after = backend.status("z")
        assert before is not None
        assert after is not None
        assert (before.size, after.size) == (3, 4)
        assert before.version != after.version
        assert after.modified > 1_500_000_000

    def test_swap(self, backend: Backend) -> None:
        """Only who knows the present version changes it; without the capability it is refused."""
        backend.create("s", b"1", durable=True)
        if not backend.capabilities.swap:
            with pytest.raises(Unsupported):
                backend.swap("s", b"2", "any")
            return
        found = backend.status("s")
        assert found is not None
        assert not backend.swap("s", b"2", None)
        assert backend.swap("s", b"2", found.version)
        assert not backend.swap("s", b"3", found.version)
        assert backend.swap("new", b"1", None)
        assert (backend.read("s"), backend.read("new")) == (b"2", b"1")

    def test_remove(self, backend: Backend) -> None:
        """What was removed is nowhere, and its name is free again."""
        backend.create("r/1", b"1", durable=False)
        assert backend.remove("r/1")
        assert not backend.remove("r/1")
        assert backend.status("r/1") is None
        with pytest.raises(NotFound):
            backend.read("r/1")
        assert backend.create("r/1", b"2", durable=False)

    def test_names(self, backend: Backend) -> None:
        """All names below a folder, and those only."""
        wanted = {f"n/{i % 3}/{i}" for i in range(20)}
        for name in (*wanted, "n2/0", "other"):
            backend.create(name, name.encode(), durable=False)
        assert set(backend.names("n")) == wanted
        assert {name: status.size for name, status in backend.entries("n/1")} == {
            name: len(name) for name in wanted if name.startswith("n/1/")
        }
        assert list(backend.names("nothing")) == []

    def test_quarantine(self, backend: Backend) -> None:
        """What is set aside is not under its name any more, and is not lost."""
        backend.create("q/x", b"damaged", durable=False)
        moved = backend.quarantine("q/x")
        assert moved is not None
        assert "quarantine" in moved
        assert backend.status("q/x") is None
        assert backend.quarantine("q/x") is None
        (kept,) = backend.names("quarantine")
        assert backend.read(kept) == b"damaged"

    def test_a_large_one(self, backend: Backend) -> None:
        """A part of a large blob comes back as it went."""
        data = os.urandom(1 << 20) * 19
        assert backend.create("large", data, durable=True)
        assert backend.read("large") == data
        assert backend.read("large", 10_000_000, 10_000_100) == data[10_000_000:10_000_100]

    def test_nothing_there(self, backend: Backend) -> None:
        """A name that was never written says so, by name."""
        with pytest.raises(NotFound, match="no/such"):
            backend.read("no/such")
        with pytest.raises(NotFound, match="no/such"):
            backend.read("no/such", 5, 10)
