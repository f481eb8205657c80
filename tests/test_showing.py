"""How tasks, jobs and records show themselves, as text and in notebooks. Nothing is computed for it."""

import importlib
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import kachery
from kachery_tasks import trust

HOSTILE = "<script>alert('x')</script>\x1b[31m\u202e\x00"


@kachery.task
def recorded(seed, *, seconds=20):
    """A recording <b>of one</b> electrode.

    And more of it.
    """
    return np.full(seconds, seed)


@kachery.task(version="2", ignore="verbose", secret="password", retries=3, timeout="10min")
def denoise(recording, password="hunter2", *, strength=0.1, verbose=False, **options):
    return recording * strength


@kachery.task
def fails(recording):
    raise ValueError(HOSTILE * 100)


@kachery.task(cache_errors=ValueError)
def keeps_error(n):
    raise ValueError(f"not {n}")


@kachery.task
def cannot_be_stored(n):
    return (one for one in [n])


@kachery.task(name=HOSTILE)
def named_badly(n=HOSTILE):
    return n


def html_of(shown):
    """The HTML, which is well-formed, runs nothing, fetches nothing and has nothing that cannot be shown."""
    text = shown._repr_html_()
    tree = ET.fromstring(f"<x>{text}</x>")
    assert {one.tag.rpartition("}")[2] for one in tree.iter()} <= {
        *("x", "div", "span", "b", "br", "code"),
        *("svg", "g", "path", "rect", "text", "title"),
    }
    names = {name for one in tree.iter() for name in one.attrib}
    assert not [name for name in names if name.startswith("on") or name in ("href", "src", "class")]
    assert text.isprintable()
    return text


def words_of(shown):
    """What is to be read of the HTML, without the picture."""
    text = re.sub("<svg.*</svg>", "", html_of(shown)).replace("</span>", "</span> ")
    return " ".join("".join(ET.fromstring(f"<x>{text}</x>").itertext()).split())


# Tasks


def test_a_task_as_text():
    line = recorded.definition.function.__code__.co_firstlineno
    assert repr(recorded) == (
        f"<task {__name__}:recorded(seed, *, seconds=20), {place_of(__file__)}:{line}>"
    )
    assert repr(denoise).startswith(
        f"<task {__name__}:denoise(recording, password=secret, *, strength=0.1, verbose=False,"
        " **options), version 2, "
    )
    assert kachery.query(lambda town: town).__repr__().startswith("<query ")


def place_of(path):
    import os

    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) else below


def test_a_task_in_a_notebook():
    words = words_of(recorded)
    assert words.startswith("recorded(seed, *, seconds=20) task")
    assert f"code {recorded.definition.fingerprint().digest[:16]}" in words
    assert "A recording <b>of one</b> electrode." in words and "And more" not in words
    words = words_of(denoise)
    assert "version 2" in words and "code" not in words
    for told in ("ignore verbose", "secret password", "retries 3", "timeout 10 min"):
        assert told in words
    assert "hunter2" not in words
    assert "max_age 60 min" in words_of(kachery.query(max_age="1h")(lambda town: town))


def test_a_task_without_a_fingerprint_shows_itself():
    numbers = (n for n in range(3))

    @kachery.task
    def counts():
        return next(numbers)

    with pytest.raises(kachery.CannotFingerprint):
        counts.job()
    assert "has no fingerprint (CannotFingerprint)" in words_of(counts)
    assert "counts" in repr(counts)


# Jobs


def test_a_job_as_text():
    job = denoise.job(recorded.job(1), password="geheim", strength=0.5)
    text = repr(job)
    assert text == (
        f"<Job denoise(recording=<recorded>, password=secret, strength=0.5, options={{}})"
        f" {job.key[:12]} not started>"
    )
    job.result()
    assert repr(job).endswith(f"{job.key[:12]} finished>")
    failed = fails.submit(1)
    failed.exception()
    assert "error: ValueError: <script>" in repr(failed) and len(repr(failed)) < 250
    assert repr(failed).isprintable()


def test_text_of_a_job_looks_nothing_up(monkeypatch):
    jobs = [recorded.job(n) for n in range(3)]

    def looked(*_):
        raise AssertionError("it was looked up")

    monkeypatch.setattr(type(jobs[0].runner), "lookup", looked)
    assert repr(jobs).count("not started") == 3


def test_each_state_of_a_job():
    job = denoise.job(recorded.job(1), strength=0.5)
    words = words_of(job)
    assert words.startswith(
        "denoise(recording=<recorded>, strength=0.5, options={}, password=secret) "
    )
    assert "status pending, not started" in words
    assert "id known when its inputs are" in words
    assert "finished" not in words

    assert f"id {recorded.job(1).id[:16]}" in words_of(recorded.job(1))

    job.result()
    for one in (job, denoise.job(recorded.job(1), strength=0.5)):
        words = words_of(one)
        assert "status finished, stored" in words
        record = one.record
        for told in (
            f"id {one.id[:16]}",
            f"result numpy.ndarray, {record.result.size} B",
            f"by {record.user} on {record.host}",
            "started 2",
            "took ",
        ):
            assert told in words
        assert "signed by" not in words

    failed = fails.submit(recorded.job(1))
    failed.exception()
    words = words_of(failed)
    assert (
        "status error" in words and "ValueError: <script>alert" in words and "stored" not in words
    )

    kept = keeps_error.submit(3)
    kept.exception()
    assert words_of(kept).endswith("ValueError: not 3") and "error, stored" in words_of(kept)
    again = words_of(keeps_error.job(3))  # nothing is loaded for it
    assert "status error, stored" in again and again.endswith("ValueError")

    lost = cannot_be_stored.submit(1)
    with pytest.warns(kachery.NotStoredWarning):
        lost.result()
    assert "status finished, not stored" in words_of(lost)


def test_no_value_is_loaded(monkeypatch):
    job = recorded.job(1)
    job.result()
    store = kachery_store()
    monkeypatch.setattr(type(store.blobs), "map", None)
    monkeypatch.setattr("kachery_tasks.cache.decode", None)
    assert "finished, stored" in words_of(recorded.job(1))
    repr(job), repr(job.record)


def kachery_store():
    from kachery_tasks.settings import current

    return current().store


class Hostile:
    """Whatever is asked of it raises."""

    def __init__(self):
        self.n = 1

    @property
    def shape(self):
        raise RuntimeError("no shape")

    def __len__(self):
        raise RuntimeError("no length")

    def __repr__(self):
        raise RuntimeError("no repr")


class BadError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@kachery.task
def raises_bad(n):
    raise BadError


def test_hostile_arguments_names_and_errors():
    for value in (
        Hostile(),
        [Hostile()],
        {"a": HOSTILE},
        HOSTILE,
        HOSTILE * 1000,
        10**5000,
        b"\xff" * 999,
    ):
        job = recorded.job(value)
        assert "recorded" in words_of(job) and len(words_of(job)) < 400
        assert repr(job).isprintable() and len(repr(job)) < 250
    assert "alert" in words_of(named_badly) and "alert" in words_of(named_badly.job())
    assert repr(named_badly).isprintable() and repr(named_badly.job()).isprintable()
    bad = raises_bad.submit(1)
    bad.exception()
    assert "BadError" in words_of(bad) and "error: BadError" in repr(bad)


def test_showing_never_raises(monkeypatch):
    job = recorded.job(1)

    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr("kachery_tasks.drawing.lines.summary_of", broken)
    assert repr(job) == f"<Job {job.task} {job.key[:12]}>"
    assert job.task in html_of(job)
    assert repr(recorded) == f"<task {recorded.definition.name}>"
    assert recorded.definition.name in html_of(recorded)


def test_who_signed_a_result_of_a_zone(monkeypatch):
    job = recorded.job(1)
    job.result()
    vouched = trust.Vouched(*job.record)
    vouched.signatures = (trust.Signature(b"\x07" * 32, None),)
    monkeypatch.setattr(type(job), "record", property(lambda self: vouched))
    assert "signed by 0707070707070707" in words_of(job)
    monkeypatch.setattr(
        "kachery_tasks.drawing.notebook.trusted_keys",
        lambda: (trusted_as("07" * 32, "Ada <at> the lab"),),
    )
    assert "signed by Ada <at> the lab" in words_of(job)


def trusted_as(key, name):
    from kachery_tasks.trusted_keys import Trusted

    return Trusted(key=key, name=name)


# What else is looked at often


def test_records_are_short():
    """The fields of a record have all of a small result in them."""
    job = recorded.job(1, seconds=5000)
    job.result()
    assert repr(job.record) == (
        f"<Record {job.task}(seconds=5000, seed=1) {job.id[:12]} finished: numpy.ndarray, 40 kB>"
    )
    assert len(repr(job.record.result)) < 80
    hostile = job.record._replace(task=HOSTILE, status=HOSTILE)
    assert repr(hostile).isprintable()


def test_stats_are_short():
    assert repr(kachery.stats()).startswith("<Stats: ") and " hits (" in repr(kachery.stats())


def test_runs_and_stale_jobs_are_short():
    from kachery_tasks.job_table import Run, Verdict
    from kachery_tasks.stale import Reason, StaleJob

    verdict = Verdict("same", [], 1.0, "there", "bob")
    run = Run(
        "ab" * 32,
        "cd" * 32,
        "m:f" + HOSTILE,
        "task",
        "finished",
        "ef" * 32,
        0.0,
        1.5,
        "h",
        "ada",
        [verdict],
    )
    assert repr(run).startswith("<Run m:f<script>") and "finished, same, 1970-01-01" in repr(run)
    assert "1.5 s, ada on h>" in repr(run) and repr(run).isprintable()
    assert len(repr(run._replace(started=9e10))) < 200
    old = StaleJob("ab" * 32, "m:f", 0.0, [Reason("code", "the code of f" + HOSTILE)])
    assert (
        repr(old).startswith("<StaleJob m:f abababababab: the code of f")
        and repr(old).isprintable()
    )


# Progress


class Terminal:
    """Standard error, as somebody watches it."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


def watched(monkeypatch):
    """A terminal on which bars are seen at once. Not a fixture: pytest replaces stderr later."""
    terminal = Terminal()
    monkeypatch.setattr("kachery_store.progress.SHOW_AFTER", 0.0)
    monkeypatch.setattr("sys.stderr", terminal)
    return terminal


def test_a_bar_without_a_warning(monkeypatch):
    bars = watched(monkeypatch)
    assert kachery.gather(recorded.map(range(3)))[2][0] == 2
    assert "3/3" in bars.text and "Warning" not in bars.text


def test_no_bar_where_none_is_wanted_or_nobody_watches(monkeypatch):
    bars = watched(monkeypatch)
    kachery.gather(recorded.map(range(3), progress=False), progress=False)
    assert not bars.text
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    importlib.import_module("ipykernel.kernelapp")  # so has a program that runs notebooks

    kachery.gather(recorded.map(range(3, 6)))
    assert not bars.text
    monkeypatch.setattr("kachery_store.progress.SHOW_AFTER", 3600.0)
    monkeypatch.setattr(Terminal, "isatty", lambda self: True)
    kachery.gather(recorded.map(range(6, 9)))
    assert not bars.text
