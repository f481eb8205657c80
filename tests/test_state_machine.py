"""Two machines and a zone, in any order of what people and accidents do, against a model.

The model is what is on the disks. It is looked at after every step: what was intact stays intact unless
the step was a collection, a deletion or damage, and what is acknowledged is where it was promised.
"""

import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conftest import count
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import kachery as ka
from kachery_store import Store, flusher, gc, transfer
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import DigestMismatch, KacheryError, NotFound, StoreUnavailable
from kachery_store.gc import collect_garbage
from kachery_store.local_backend import LocalBackend
from kachery_store.manifest import Manifest
from kachery_store.outbox import Item
from kachery_store.remote import open_backend
from kachery_store.removal import Policy
from kachery_store.zone import Zone
from kachery_tasks.holdings import holdings
from kachery_tasks.settings import Settings, applied
from kachery_tasks.trust import Trust

PART = 100  # bytes, so that most texts travel in parts, to a zone that has parts
TEXTS = [f"text {i} " * (1, 20, 40)[i % 3] for i in range(6)]
DIGESTS = [Digest("sha1", hash_buffer("sha1", text.encode())) for text in TEXTS]
MEMORY = Path("/dev/shm")


@ka.task(version="1")
def made(n):
    return {"n": n, "array": np.full(9_000, n)}


class Switch:
    """Puts a backend out of reach, for those who use it through this object, and back."""

    def __init__(self, backend):
        self.backend = backend
        self.off = False
        for name in ("read", "status", "stat", "create", "replace", "remove", "names", "entries"):
            if hasattr(backend, name):
                setattr(backend, name, self._guarded(getattr(backend, name)))
        if hasattr(backend, "temporary"):
            backend.temporary = self._guarded(backend.temporary)

    def _guarded(self, method):
        def guarded(*args, **given):
            if self.off:
                raise StoreUnavailable("out of reach", place=self.backend.url)
            return method(*args, **given)

        return guarded


class Machine:
    """A computer: its store, and what its owner pinned and linked."""

    def __init__(self, root, switch):
        self.root = root
        self.switch = switch
        self.pinned = set()
        self.open()

    def open(self):
        self.store = Store(self.root, Zone("lab", self.switch.backend), Trust("lab"))
        self.settings = Settings(str(self.root), None)
        self.settings._store = self.store

    def path(self, i):
        return self.root / DIGESTS[i].path

    def intact(self):
        return {i for i in range(len(TEXTS)) if content(self.path(i)) == TEXTS[i].encode()}

    def waits(self):
        return {item.name for item in self.store.uplink.outbox.items()}


def content(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


machines = st.integers(0, 1)
texts = st.integers(0, len(TEXTS) - 1)


class Lab(RuleBasedStateMachine):
    @initialize(
        kind=st.sampled_from(["memory", "folder"]),
        first=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), max_size=8),
    )
    def open(self, kind, first):
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        name = uuid.uuid4().hex
        url = f"memory://{name}" if kind == "memory" else str(self.folder / "zone")
        used, self.zone = open_backend(url), open_backend(url)
        if kind == "memory":
            used.part_size = self.zone.part_size = PART
        self.switch = Switch(used)
        self.machines = [Machine(self.folder / name, self.switch) for name in ("one", "two")]
        self.spoilt = (
            set()
        )  # texts that were damaged in the zone, until they are intact there again
        self.seen = self.look()
        for m, i in first:
            self.store(m, i, "text")

    def look(self):
        return [*(machine.intact() for machine in self.machines), self.in_zone()]

    def in_zone(self):
        return {i for i, digest in enumerate(DIGESTS) if self.zone_has(digest, TEXTS[i].encode())}

    def zone_has(self, digest, data):
        try:
            return self.zone.read(digest.path) == data
        except (NotFound, DigestMismatch):
            pass
        try:
            manifest = Manifest.from_bytes(self.zone.read(transfer.manifest_name(digest)))
            return b"".join(self.zone.read(p.digest.path) for p in manifest.parts) == data
        except KacheryError:
            return False

    def after(self, *, lost=((), (), ())):
        """Look what there is now; only what is `lost` may be gone."""
        now = self.look()
        for before, after, may_go in zip(self.seen, now, lost, strict=True):
            assert before - after <= set(may_go), "something intact is gone"
        self.spoilt -= now[2]
        self.seen = now

    def acknowledged(self, machine, i):
        assert i in self.seen[self.machines.index(machine)]
        assert i in self.seen[2] or i in self.spoilt or DIGESTS[i].hex in machine.waits(), (
            "acknowledged, and neither in the zone nor waiting"
        )

    @property
    def reachable(self):
        return not self.switch.off

    @rule(m=machines, i=texts, by=st.sampled_from(["text", "file"]))
    def store_one(self, m, i, by):
        self.store(m, i, by)

    def store(self, m, i, by):
        machine = self.machines[m]
        if by == "text":
            uri = machine.store.files.store_text(TEXTS[i])
        else:
            path = self.folder / "source"
            path.write_text(TEXTS[i])
            uri = machine.store.files.store_file(path)
        assert uri == str(DIGESTS[i])
        self.after()
        self.acknowledged(machine, i)

    @rule(m=machines, i=texts, how=st.sampled_from(["text", "range", "file", "info", "here"]))
    def load(self, m, i, how):
        machine, uri, text = self.machines[m], str(DIGESTS[i]), TEXTS[i]
        files = machine.store.files
        at_hand = i in self.seen[m] or (
            how != "here"
            and self.reachable
            and not machine.store.zone.is_away
            and i in self.seen[2]
        )
        try:
            if how == "text":
                assert files.load_text(uri) == text
            elif how == "range":
                assert files.load_bytes(uri, 2, 6) == text.encode()[2:6]
            elif how == "file":
                assert Path(files.load_file(uri)).read_text() == text
            elif how == "here":
                assert files.load_text(uri, local_only=True) == text
            else:
                files.load_file_info(uri)
        except (NotFound, DigestMismatch):
            assert not at_hand
        except ValueError:  # a range of something damaged, that is shorter
            assert how == "range" and (i not in self.seen[m] or i not in self.seen[2])
        self.after()

    @rule(m=machines, n=st.integers(0, 2))
    def compute(self, m, n):
        with applied(self.machines[m].settings):
            value = made(n)
        assert value["n"] == n and np.array_equal(value["array"], np.full(9_000, n))
        self.after()

    @rule(m=machines, n=st.integers(0, 2))
    def forget(self, m, n):
        with applied(self.machines[m].settings), suppress(StoreUnavailable):
            made.job(n).forget()
        self.after()

    @rule(m=machines, i=texts)
    def link(self, m, i):
        path = self.folder / f"linked{m}{i}"
        if not path.exists():
            path.write_text(TEXTS[i])
        elif path.read_text() != TEXTS[i]:
            return
        assert self.machines[m].store.files.link_file(path) == str(DIGESTS[i])
        self.after()

    @rule(m=machines, i=texts, same_size=st.booleans())
    def change_what_is_linked(self, m, i, same_size):
        path = self.folder / f"linked{m}{i}"
        if path.exists():
            path.write_text("x" * (len(TEXTS[i]) - (not same_size)))

    @rule(m=machines, i=texts)
    def pin(self, m, i):
        try:
            self.machines[m].store.pins.add(str(DIGESTS[i]))
        except NotFound:
            assert i not in self.seen[m]
        else:
            self.machines[m].pinned.add(i)
        self.after()

    @rule(m=machines, i=texts)
    def unpin(self, m, i):
        assert self.machines[m].store.pins.remove(str(DIGESTS[i])) == (i in self.machines[m].pinned)
        self.machines[m].pinned.discard(i)

    @rule(m=machines)
    def collect(self, m):
        machine = self.machines[m]
        kept = machine.pinned | {i for i in range(len(TEXTS)) if DIGESTS[i].hex in machine.waits()}
        policy = Policy(max_size=0, files=True, orphans=True, grace=0.0)
        collect_garbage(machine.store.backend, holdings(machine.store), policy)
        lost = [(), (), ()]
        lost[m] = set(range(len(TEXTS))) - kept
        self.after(lost=lost)

    @rule(m=machines, i=texts)
    def evict(self, m, i):
        with suppress(FileNotFoundError):
            self.machines[m].path(i).unlink()
        lost = [(), (), ()]
        lost[m] = {i}
        self.after(lost=lost)

    @rule(m=machines)
    def crash(self, m):
        self.machines[m].open()
        self.after()

    @rule(m=machines, n=st.integers(0, 99), how=st.sampled_from(["bit", "short", "other", "empty"]))
    def damage_here(self, m, n, how):
        root = self.machines[m].root
        paths = sorted(p for f in ("sha1", "blake3", "jobs") for p in root.glob(f"{f}/**/*"))
        paths = [path for path in paths if path.is_file()]
        if not paths:
            return
        path = paths[n % len(paths)]
        path.chmod(0o600)
        path.write_bytes(spoilt(path.read_bytes(), how))
        lost = [(), (), ()]
        lost[m] = {i for i in range(len(TEXTS)) if self.machines[m].path(i) == path}
        self.after(lost=lost)

    @rule(n=st.integers(0, 99), how=st.sampled_from(["bit", "short", "other", "gone"]))
    def damage_in_zone(self, n, how):
        names = sorted(name for f in ("sha1", "manifests", "blake3") for name in self.zone.names(f))
        if not names:
            return
        name = names[n % len(names)]
        before = self.in_zone()
        if how == "gone":
            self.zone.remove(name)
        else:
            self.zone.replace(name, spoilt(self.zone.read(name), how))
        lost = before - self.in_zone()
        self.spoilt |= lost
        self.after(lost=((), (), lost))

    @rule()
    def out_of_reach(self):
        self.switch.off = True

    @rule()
    def back(self):
        self.switch.off = False
        for machine in self.machines:
            machine.store.zone._away_until = 0.0

    @precondition(lambda self: not self.switch.off)
    @rule(m=machines)
    def push_what_waits(self, m):
        machine = self.machines[m]
        waiting = {i for i in range(len(TEXTS)) if DIGESTS[i].hex in machine.waits()}
        had = waiting & self.seen[m]
        failed = dict(machine.store.uplink.push())
        for (
            item
        ) in machine.store.uplink.outbox.items():  # its blob is damaged here, and nowhere else
            assert item.kind == "jobs" and "waits" in failed[item]
        self.after()
        assert had <= self.seen[2] | self.spoilt

    @rule(m=machines, i=texts)
    def push(self, m, i):
        machine = self.machines[m]
        try:
            machine.store.uplink.send_now(Item("sha1", DIGESTS[i].hex))
        except StoreUnavailable:
            assert self.switch.off
        except (NotFound, DigestMismatch):
            assert i not in self.seen[m]
        else:
            self.after()
            assert i in self.seen[2] | self.spoilt
        self.after()

    @rule(m=machines, i=texts)
    def pull(self, m, i):
        machine = self.machines[m]
        try:
            machine.store.blobs.path(DIGESTS[i])
        except (NotFound, DigestMismatch):
            away = self.switch.off or machine.store.zone.is_away
            assert i not in self.seen[m] and (away or i not in self.seen[2])
            self.after()
        else:
            self.after()
            assert i in self.seen[m]

    def teardown(self):
        for machine in self.machines if hasattr(self, "machines") else ():
            left = os.listdir(machine.root / "tmp") if (machine.root / "tmp").exists() else []
            assert not any("partial" not in name for name in left)
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)
            if not isinstance(self.zone, LocalBackend):
                with suppress(FileNotFoundError):
                    fsspec.filesystem("memory").rm(
                        self.zone.url.partition("://")[2], recursive=True
                    )


def spoilt(data, how):
    if how == "bit" and data:
        return bytes([data[0] ^ 1]) + data[1:]
    if how == "short":
        return data[:-1]
    return b"" if how == "empty" else b"x" + data[1:][::-1] + b"y"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gc, "_TICK_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "PART_SIZE", PART)
    monkeypatch.setattr(flusher, "sync_later", lambda path, root: None)
    from kachery_store import zoned

    # What waits is sent when the machine of the model says so, not by a thread of its own.
    monkeypatch.setattr(zoned.Uplink, "_answered", lambda self: self.zone.is_back())


TestLab = Lab.TestCase
TestLab.settings = settings(
    max_examples=count(1000, 200),
    stateful_step_count=count(300, 60),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestLab.pytestmark = [
    pytest.mark.timeout(count(7200, 600)),
    *(
        pytest.mark.filterwarnings(f"ignore::{name}")
        for name in (
            "kachery_store.errors.ZoneWarning",
            "kachery_store.errors.DamagedWarning",
            "kachery.NotStoredWarning",
            "hypothesis.errors.NonInteractiveExampleWarning",
        )
    ),
]
