"""A lease among all that share a zone: small objects `leases/<job id>`, which say who holds it.

The first to create it has the lease. Its holder writes it anew every third of its time; when it has
not changed for that time, by the clock of whoever looks, the holder is presumed dead, and the first to
create `leases/<job id>.<token + 1>` has the lease. So nobody's clock is compared with anybody's, and a
zone need only create exclusively (docs/formats/lease.md). What makes two runs one result is not the
lease but the record, which is created exclusively, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kachery_store import DigestMismatch, NotFound, StoreUnavailable
from kachery_store.backend import Backend
from kachery_store.local_backend import LocalBackend
from kachery_store.uplink import Uplink, ref_name

from .heartbeat import Heart
from .holder import MOST_BYTES, Holder, holder_of, lease_seconds, this_process
from .long_wait import LongWait

T = TypeVar("T")

_PATIENCE = 0.02  # the part of the time waited so far that may pass until the next look
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.04, 1.0  # seconds
_LEASE_EVERY = 0.2  # seconds between two looks at the lease itself, at least
# A clock that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_log = logging.getLogger("kachery.tasks")
_hearts: dict[str, Heart] = {}  # by the zone's URL: one that does not answer keeps no other waiting


class _NoAnswer(Exception):
    """The zone cannot be reached, or written, now: work goes on without it."""


class ZoneLease:
    """The lease on a job in a zone that may be written, which is behind a local store."""

    seconds: float

    def __init__(self, local: LocalBackend, uplink: Uplink, job_id: str) -> None:
        self._local = local
        self._job_id = job_id
        self._way = _Way(uplink, job_id)
        self._me: Holder | None = None  # from before the lease is asked for until it is given back
        self._beaten = float("-inf")
        self._is_lost = False
        self._lock = threading.Lock()

    def wait(self, lookup: Callable[[], T | None]) -> T | None:
        """What answers the job once nobody else computes it; None when this process is to compute it.

        Waits while another machine holds the lease. When the zone cannot be reached, that of this
        machine is enough. Raises what `lookup` raises, ConfigError.
        """
        if self._local.status(ref_name("jobs", self._job_id)) is not None:
            found = lookup()  # what is here needs no journey
            if found is not None:
                return found
        try:
            return self._claimed(lookup)
        except _NoAnswer:
            return lookup()

    def _claimed(self, lookup: Callable[[], T | None]) -> T | None:
        token = 1
        watch = _Watch(self._way, self._job_id)
        while not self._create(token):
            while True:
                if watch.sees_record():
                    found = lookup()
                    if found is not None:
                        return found
                if watch.is_gone(token):
                    token = 1
                    break
                if watch.is_silent():
                    token += 1
                    break
        return lookup()  # somebody may just have finished

    def _create(self, token: int) -> bool:
        # Noted before it is asked for: a lease whose acknowledgement is lost has to be given back.
        self._me = me = this_process(token)
        now = time.clock_gettime(_CLOCK)
        name = self._way.name(token)
        if not self._way.ask(lambda zone: zone.create(name, me.to_bytes(), durable=False)):
            self._me = None
            return False
        self.seconds, self._beaten = me.seconds, now
        self._way.heart.add(self)
        return True

    def beat(self) -> None:
        """Write the lease anew, unless another one has it by now."""
        with self._lock:
            if self._me is None or self._is_lost:
                return
            now = time.clock_gettime(_CLOCK)
            try:
                if self._way.taker(self._me) is not None:
                    self._is_lost = True
                    return
                self._me = self._me._replace(beat=self._me.beat + 1)
                self._way.replace(self._me)
            except (_NoAnswer, StoreUnavailable) as error:
                _log.info("the lease on job %s is not renewed in the zone: %s", self._job_id, error)
            else:
                self._beaten = now

    @property
    def _is_certain(self) -> bool:
        """Whether it was renewed so lately that nobody can have presumed us dead."""
        young = time.clock_gettime(_CLOCK) - self._beaten < lease_seconds() / 2
        return young and not self._is_lost

    def taken_by(self) -> str | None:
        """Who has the lease by now, if that is somebody else, as far as the zone can be asked."""
        with self._lock:
            if self._me is None or self._is_certain:
                return None
            try:
                return self._way.taker(self._me)
            except (_NoAnswer, StoreUnavailable):
                return None

    def give_back(self) -> None:
        """Let others have it. What cannot be removed now is presumed dead after a while."""
        way, me = self._way, self._me
        if me is None:
            return
        way.heart.remove(self)
        with self._lock:
            self._me = None
            try:
                if self._is_certain or way.taker(me) is None:
                    way.remove(me.token)
            except (_NoAnswer, StoreUnavailable) as error:
                _log.warning(
                    "the lease on job %s stays in the zone until it has expired: %s",
                    *(self._job_id, error),
                )


class _Way:
    """What is asked of a zone for the lease on a job."""

    def __init__(self, uplink: Uplink, job_id: str) -> None:
        self._uplink = uplink
        self._zone = uplink.zone
        self._job_id = job_id
        url = uplink.zone.backend.url
        self.heart = _hearts.get(url) or _hearts.setdefault(url, Heart())

    def name(self, token: int) -> str:
        """Where the lease with that token is."""
        return f"leases/{self._job_id}" + ("" if token == 1 else f".{token}")

    def ask(self, request: Callable[[Backend], T]) -> T:
        """What the zone answers. _NoAnswer, which has been said, when it does not."""
        if self._zone.is_away or self._zone.is_closed:
            raise _NoAnswer
        try:
            self._uplink.prepare(writing=True)
            return request(self._zone.backend)
        except StoreUnavailable as error:
            if error.is_refusal:
                self._zone.refused(error)
            else:
                self._zone.went_away(error)
            raise _NoAnswer from error

    def has_record(self) -> bool:
        """Whether the zone has a record of the job."""
        name = ref_name("jobs", self._job_id)
        return self.ask(lambda zone: zone.status(name)) is not None

    def said(self, token: int) -> bytes | None:
        """What the lease with that token says; None when there is none."""
        return self.ask(lambda _: self._read(token))

    def _read(self, token: int) -> bytes | None:
        try:
            return self._zone.backend.read(self.name(token), 0, MOST_BYTES)
        except NotFound:
            return None
        except DigestMismatch:  # it is no file, or a very strange server
            return b""

    def taker(self, me: Holder) -> str | None:
        """Who has the lease instead of us; None when it is still ours. StoreUnavailable.

        Nothing is said of a zone that is away: this is asked in the background, and at the end.
        """
        self._check_there()
        other = self._read(me.token + 1)
        if other is None:
            mine = holder_of(self._read(me.token) or b"")
            if mine is not None and mine.nonce == me.nonce:
                return None
            return "somebody who has ended since" if mine is None else str(mine)
        return str(holder_of(other) or "somebody who does not say their name")

    def replace(self, me: Holder) -> None:
        """Write our lease anew. StoreUnavailable."""
        self._zone.backend.replace(self.name(me.token), me.to_bytes())

    def remove(self, token: int) -> None:
        """Remove our lease and those of the dead before us. StoreUnavailable."""
        self._check_there()
        for one in range(1, token + 1):
            self._zone.backend.remove(self.name(one))

    def _check_there(self) -> None:
        if self._zone.is_away or self._zone.is_closed:
            raise _NoAnswer(f"zone {self._zone.name} cannot be reached or written now")


class _Watch:
    """Waits for a job that another machine computes.

    Silence is the sum of our pauses, not a difference of times: while this machine sleeps, it does not
    observe that the other one is silent.
    """

    def __init__(self, way: _Way, job_id: str) -> None:
        self._way = way
        self._wait = LongWait(job_id)
        self._waited = 0.0
        self._looked = 0.0  # the time waited when the lease was last looked at
        self._said: bytes | None = None
        self._token = 0
        self._silent = 0.0
        self._record_is_useless = False

    def sees_record(self) -> bool:
        """Pause, and tell whether the zone has a record by now; once, for it may be of no use."""
        if self._token:  # not before the first look at the lease
            pause = min(max(_PATIENCE * self._waited, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            time.sleep(pause)
            self._waited += pause
            self._wait.lasts(pause, lambda: holder_of(self._said or b""))
        if self._record_is_useless or not self._way.has_record():
            return False
        self._record_is_useless = True
        return True

    def is_gone(self, token: int) -> bool:
        """Whether the lease with that token is there no more, as of the last look."""
        passed = self._waited - self._looked
        if token == self._token and passed < _LEASE_EVERY:
            return False
        said = self._way.said(token)
        if (token, said) == (self._token, self._said):
            self._silent += passed
        else:
            self._silent = 0.0
        self._token, self._said, self._looked = token, said, self._waited
        if said is None:
            self._token = 0
            self._record_is_useless = False
        return said is None

    def is_silent(self) -> bool:
        """Whether the holder, at whose lease we looked, is presumed dead."""
        holder = holder_of(self._said or b"")
        seconds = lease_seconds() if holder is None else holder.seconds
        if self._silent < seconds:
            return False
        who = holder or "a process that does not say its name"
        name = self._way.name(self._token)
        _log.warning(
            "%s, which holds %s in the zone, has been silent for %g s: its job is taken over",
            *(who, name, seconds),
        )
        return True
