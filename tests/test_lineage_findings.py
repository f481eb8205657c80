"""Lineage that claims no more than is known: other results, times, circles, chance, and its cost."""

import json
import threading
from collections import Counter
from contextvars import copy_context

import numpy as np
import pytest
from test_lineage import assert_no_circles, linked, record_of, short, tasks_of

import kachery
from kachery_tasks.lineage.candidates import Candidates
from kachery_tasks.lineage.index import Index, Maker
from kachery_tasks.lineage.origins import Origins
from kachery_tasks.parts import is_telling, parts_of
from kachery_tasks.values import encode

PREFIX = 4  # bytes


# A result that is another now


class Numbers:
    """What a task that is not deterministic gives, one after the other."""

    given = 0


@kachery.task(version="1")
def drawn(n):
    Numbers.given += 1
    return [Numbers.given + i / 7 for i in range(n)]


@kachery.task(version="1")
def summed(numbers):
    return float(np.sum(numbers)) + 0.123456789


def how(found, target):
    return {
        short(found.jobs[one.source].task): one.by for one in found.links if one.target == target
    }


def refreshed(n):
    with kachery.using(refresh=True):
        return drawn(n)


def forgotten(n):
    drawn.job(n).forget()
    return drawn(n)


@pytest.mark.parametrize("n", [5, 1000])
@pytest.mark.parametrize(("again", "by"), [(refreshed, "earlier"), (forgotten, "replaced")])
def test_a_job_whose_result_is_another_now(n, again, by):
    job = summed.job(drawn.job(n))
    job.result()
    id = job.record.job_id
    assert how(kachery.lineage(f"job://{id}"), id) == {"drawn": "record"}
    new = again(n)
    found = kachery.lineage(f"job://{id}")
    assert how(found, id) == {"drawn": by}
    words = {"earlier": "(in an earlier run)", "replaced": "(its result is another now)"}[by]
    assert f"numbers=<- drawn {words}" in found.to_text(width=200)
    assert "of 1 job another result was taken than the record has now" in str(found)
    assert words.strip("()") in found.to_dot() and words.strip("()") in found.to_html()
    assert f'"by": "{by}"' in found.to_json()
    for asked in (new, drawn.job(n)):
        assert tasks_of(kachery.lineage(asked, down=True)) == ["drawn"]


def test_another_result_is_not_derived_from():
    pytest.importorskip("prov")
    job = summed.job(drawn.job(5))
    job.result()
    id, taken = job.record.job_id, dict((name, one) for name, one, _ in job.record.arguments)
    assert "wasDerivedFrom" not in json.loads(kachery.lineage(f"job://{id}").to_prov())
    refreshed(5)
    told = json.loads(kachery.lineage(f"job://{id}").to_prov())
    assert "wasDerivedFrom" not in told
    made = {one["prov:entity"] for one in told["wasGeneratedBy"].values()}
    assert f"blake3:{taken['numbers'].hex()}" not in made


def test_the_same_result_again_is_no_other():
    @kachery.task(version="1")
    def steady(n):
        return [i / 7 for i in range(n)]

    for job in (summed.job(steady.job(9)), total.job([steady.job(8), steady.job(7)])):
        job.result()
        id = job.record.job_id
        with kachery.using(refresh=True):
            steady(9), steady(8), steady(7)
        assert set(how(kachery.lineage(f"job://{id}"), id).values()) == {"record"}
    assert "summed" in tasks_of(kachery.lineage(steady.job(9), down=True))


def test_another_result_among_several():
    whole = [drawn.job(n) for n in (3, 4)]
    job = total.job(whole)
    job.result()
    id = job.record.job_id
    refreshed(4)
    found = kachery.lineage(f"job://{id}")
    by = {
        found.jobs[one.source].record.arguments[0][2]: one.by
        for one in found.links
        if one.target == id
    }
    assert by == {"3": "record", "4": "earlier"}
    assert tasks_of(kachery.lineage(drawn.job(4), down=True)) == ["drawn"]
    assert tasks_of(kachery.lineage(drawn.job(3), down=True)) == ["drawn", "total"]


@kachery.task(version="1")
def total(parts):
    return sum(float(np.sum(part)) for part in parts) + 0.1234567


# Time


@kachery.task(version="1")
def packed(values):
    return b"packed: " + values.tobytes()


@kachery.task(version="1")
def opened(data):
    return np.frombuffer(data[8:]).copy()


def test_a_way_there_and_back():
    raw = np.arange(100.0)
    data = packed(raw)
    before = kachery.lineage(data)
    back = opened(data)
    for found in (kachery.lineage(data), kachery.lineage(packed.job(raw))):
        assert (found.links, found.inputs) == (before.links, before.inputs)
    assert linked(kachery.lineage(back)) == {("packed", "opened", "data")}
    down = kachery.lineage(raw, down=True)
    assert linked(down) == {("packed", "opened", "data")} and list(down.inputs) == list(down.asked)
    # Whoever runs it again does not turn it round
    packed.refresh(raw)
    assert linked(kachery.lineage(back)) == {("packed", "opened", "data")}
    assert linked(kachery.lineage(data)) == set()


def test_a_way_there_and_back_with_another_clock():
    """The clock of the host that packs is an hour late: what came first seems to come last."""
    raw, data = "the raw recording, as text", "what it is when it is packed"
    record_of(1, "m:packed", {"x": raw}, data, started=5000, host="early")
    record_of(2, "m:opened", {"x": data}, raw, started=1000, host="late")
    for number in (1, 2):
        for down in (False, True):
            found = kachery.lineage(f"job://{number:064x}", down=down)
            assert_no_circles(found)
            assert set(found.jobs) <= {f"{1:064x}", f"{2:064x}"}


def test_what_came_later_on_the_same_host_is_no_origin():
    text = "something that is typed, and later made"
    user = record_of(1, "m:user", {"x": text}, 1, started=100)
    record_of(2, "m:maker", {}, text, started=200)
    assert tasks_of(kachery.lineage(user.uri)) == ["user"]
    assert tasks_of(kachery.lineage(f"{2:064x}", down=True)) == ["maker"]
    record_of(3, "m:elsewhere", {}, text, started=300, host="another")
    assert tasks_of(kachery.lineage(user.uri)) == ["elsewhere", "user"]


def test_clocks_that_are_set_right_meanwhile():
    text = "something that takes an hour to make"
    record_of(1, "m:maker", {}, text, started=0, seconds=3600.0)
    user = record_of(2, "m:user", {"x": text}, 1, started=3599.0)
    early = record_of(3, "m:early", {"x": text}, 2, started=3000.0)
    assert tasks_of(kachery.lineage(user.uri)) == ["maker", "user"]
    assert tasks_of(kachery.lineage(early.uri)) == ["early"]


def test_a_maker_that_ran_again_since(store_dir):
    values = np.arange(50.0)

    @kachery.task(version="1")
    def made(n):
        return values * n

    job = summed.job(made(3))
    job.result()
    made.job(3).forget()
    assert tasks_of(kachery.lineage(job)) == ["summed"]
    made(3)
    assert tasks_of(kachery.lineage(job)) == ["made", "summed"]
    assert tasks_of(kachery.lineage(made.job(3), down=True)) == ["made", "summed"]
    for journal in (store_dir / "runs").iterdir():
        journal.write_bytes(b"no journal at all\n00000000 {}\n")
    assert tasks_of(kachery.lineage(job)) == ["summed"]  # nobody knows of the first run


# Many that made the same


def many(number):
    said, source = "all the checks have passed", "the source of it all"
    record_of(9999, "m:source", {}, source, started=-100)
    for i in range(number):
        record_of(i, "m:check", {"i": i, "of": source}, said, started=100 * i)
        record_of(
            number + i,
            "m:next",
            {"i": i, "said": said},
            f"and so on with number {i}",
            started=100 * i + 50,
        )


def looked_up(monkeypatch, number, asked):
    many(number)
    seen = Counter()

    def counted(cls, name):
        real = getattr(cls, name)

        def call(*args, **options):
            seen[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(cls, name, call)

    for cls, name in ((Index, "makers"), (Index, "takers"), (Candidates, "of"), (Origins, "_of")):
        counted(cls, name)
    found = kachery.lineage(f"job://{asked:064x}", down=True)
    monkeypatch.undo()
    return found, seen


def test_down_looks_each_thing_up_once(monkeypatch):
    number = 60
    found, seen = looked_up(monkeypatch, number, 9999)
    assert len(found.jobs) == 2 * number + 1 == len(found.links) + 1
    assert seen["takers"] <= number + 2 and seen["makers"] <= 2 * number + 5
    assert seen["_of"] <= 2 * number and seen["of"] <= 2 * number


def test_few_of_many_makers_are_compared():
    class Hand:
        first_runs = None

        def __init__(self):
            self.asked = 0

        def get(self, job_id):
            self.asked += 1
            return self.records[job_id]

    many(50)
    hand = Hand()
    with_records = [kachery.lineage(f"job://{i:064x}").jobs[f"{i:064x}"].record for i in range(50)]
    hand.records = {one.job_id: one for one in with_records}
    makers = [Maker(one.job_id, one.started + one.seconds, 0, False) for one in with_records]
    candidates = Candidates(makers, hand)
    user = kachery.lineage(f"job://{99:064x}").jobs[f"{99:064x}"].record
    for _ in range(50):
        assert candidates.of(user)[0].job_id == with_records[0].job_id
    assert hand.asked == 50


def test_down_says_what_up_says():
    many(20)
    edges = lambda found: {
        (one.source, one.target) for one in found.links if one.source in found.jobs
    }
    ids = [f"{i:064x}" for i in (*range(40), 9999)]
    up = set().union(*(edges(kachery.lineage(f"job://{id}")) for id in ids))
    down = set().union(*(edges(kachery.lineage(f"job://{id}", down=True)) for id in ids))
    assert up == down and len(up) == 40


# Jobs inside jobs


@kachery.task
def piece(i):
    return f"a piece of the whole: {i}"


@kachery.task
def threaded(n):
    pieces = [piece(0)]
    context = copy_context()
    thread = threading.Thread(target=lambda: pieces.append(context.run(piece, 1)))
    thread.start()
    thread.join()
    return "".join(pieces)


def test_threads_with_the_context_of_the_function():
    threaded(2)
    assert tasks_of(kachery.lineage(threaded.job(2))) == ["piece", "piece", "threaded"]


def test_children_are_told_by_both():
    parent = record_of(1, "m:parent", {}, "of the parent", started=100, children=[f"{2:064x}"])
    record_of(2, "m:told", {}, "the one of which it tells", started=100)
    record_of(3, "m:tells", {}, "the one that tells of it", started=100, parent=parent.job_id)
    found = kachery.lineage(parent.uri)
    assert linked(found) == {("told", "parent", ""), ("tells", "parent", "")}


# Map, then reduce


@kachery.task(version="1")
def fit(i):
    return {"a": i * 1.2345678, "curve": [i] * 200}


@kachery.task(version="1")
def figure(fits):
    return f"a figure of {len(fits)} fits"


@pytest.mark.parametrize("shape", [list, tuple, dict.fromkeys, enumerate])
def test_a_list_of_results(shape):
    fits = kachery.gather(fit.map(range(30)))
    taken = {
        list: fits,
        tuple: tuple(fits),
        enumerate: [*enumerate(fits)],
    }.get(shape, {f"fit {i}": one for i, one in enumerate(fits)})
    job = figure.job(taken)
    job.result()
    found = kachery.lineage(job)
    assert tasks_of(found) == ["figure"] + ["fit"] * 30
    assert {one.by for one in found.links if one.label == "fits"} == {"content"}
    assert job.id in kachery.lineage(fit.job(7), down=True).jobs
    assert job.id in kachery.lineage(fits[7], down=True).jobs
    ((name, addresses, complete),) = job.record.parts
    assert name == "fits" and len(addresses) >= 30 * 32 and not complete


def test_parts_of_secret_arguments_are_not_kept():
    @kachery.task(version="1", secret=("fits",))
    def hidden(fits):
        return f"a figure of {len(fits)} fits"

    job = hidden.job([fit(i) for i in range(20)])
    job.result()
    assert job.record.parts == [] and job.record.arguments[0][2] == "secret"


def test_so_many_parts_are_kept():
    texts = [f"the text with the number {i}" for i in range(1000)]
    job = figure.job(texts)
    job.result()
    ((_, addresses, complete),) = job.record.parts
    assert len(addresses) == 300 * 32 and not complete
    few = figure.job(texts[:200])
    few.result()
    ((_, addresses, complete),) = few.record.parts
    assert complete and addresses[:32] == encode(texts[0]).address
    assert figure.job(texts[:2]).result() and figure.job(texts[:2]).record.parts == []


def test_parts_of_a_value():
    nested = {"a": ["something long enough", "something else, too"], "b": 3}
    found = parts_of(encode(nested).data)
    wanted = [nested["a"], *nested["a"]]
    assert found.addresses == [encode(one).address for one in wanted] and found.complete
    assert parts_of(encode(nested).data, 2) == ([encode(nested["a"]).address], False)
    assert parts_of(b"nothing like that") == ([], False)


# Chance


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(8),
        np.ones(50),
        [0] * 40,
        [True, False] * 30,
        np.eye(5),
        np.zeros((9, 9), bool),
        "-" * 80,
    ],
)
def test_what_many_have_by_chance(value):
    @kachery.task(version="1")
    def empty(i):
        return value

    @kachery.task(version="1")
    def model(bias):
        return f"a model with the bias {np.sum(np.asarray(bias) == 0)}"

    assert not is_telling(encode(value).data[PREFIX:])
    empty(3), model(value)
    assert tasks_of(kachery.lineage(model.job(value))) == ["model"]
    assert tasks_of(kachery.lineage(empty.job(3), down=True)) == ["empty"]
    assert tasks_of(kachery.lineage(value=value)) == ["empty"]  # asked about directly, it is found


@pytest.mark.parametrize(
    "value", [np.arange(40.0), np.array([4.0, 6.0, 8.0]), "a telling text, one hopes"]
)
def test_what_nobody_has_by_chance(value):
    assert is_telling(encode(value).data[PREFIX:])


def test_content_is_told_from_what_the_record_says():
    @kachery.task(version="1")
    def names(i):
        return ["left hand", "right hand"]

    @kachery.task(version="1")
    def plot(hands, more):
        return "plotted with care"

    job = plot.job(["left hand", "right hand"], names.job(2))
    names(1), job.result()
    found = kachery.lineage(job)
    by = {one.label: one.by for one in found.links if one.target == job.id}
    assert by == {"hands": "content", "more": "record"}
    assert "plot(hands=<~ names, more=<- names)" in str(found)
    assert str(found).endswith("; <~ is told by content alone")
    assert "(by content)" in found.to_html() and '"~ hands"' in found.to_dot()
    links = json.loads(found.to_json())["links"]
    assert {one["label"]: one["by"] for one in links if one["target"] == job.id} == by
