"""Keys, signatures and trust: whose results are used, and whose are not."""

import json
import os
import stat
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
from click.testing import CliRunner
from conftest import run_python, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signature_vectors import PATH, vectors

import kachery
from kachery.cli import cli
from kachery_store.errors import (
    BadKey,
    DigestMismatch,
    KacheryError,
    NotTrusted,
    StoreTooNew,
    ZoneWarning,
)
from kachery_store.identity import (
    Identity,
    delegated,
    export_identity,
    identity,
    import_identity,
    own_identity,
)
from kachery_store.outbox import Item
from kachery_store.signing import Signer
from kachery_tasks.record import Record, record_in
from kachery_tasks.sealed import is_signed, signatures_of, signed, unseal
from kachery_tasks.settings import applied, current
from kachery_tasks.trust import objection, signers
from kachery_tasks.trusted_keys import Trusted, distrust, trust, trusted_keys
from kachery_tasks.values import encode

RAN = []


@kachery.task(version="1")
def doubled(x):
    RAN.append(x)
    return 2 * x


@kachery.task(version="1", opaque="return")
def opaque(x):
    RAN.append(x)
    return iter([x])


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


@pytest.fixture(params=["folder", "bucket"])
def lab(request, tmp_path, monkeypatch):
    """A zone named lab, and another one named other, in force for nobody yet."""
    toml = ""
    for name in ("lab", "other"):
        if request.param == "bucket":
            bucket = request.getfixturevalue("bucket")
            table = f'url = "{bucket.url}/{name}"\nendpoint_url = "{bucket.endpoint}"\n'
        else:
            table = f'url = "{tmp_path}/{name}"\n'
        toml += f"[zones.{name}]\n{table}"
    (tmp_path / "kachery.toml").write_text(toml)
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A function: a with-block in which a person of that name works, on a machine, with a zone."""

    @contextmanager
    def works(name, machine="", zone="lab"):
        before = os.environ["KACHERY_USER_DIR"]
        monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "users" / name))
        try:
            with kachery.using(dir=tmp_path / f"store-{name}{machine}", zone=zone):
                yield
        finally:
            monkeypatch.setenv("KACHERY_USER_DIR", before)

    return works


def key_of(person, name):
    with person(name, zone=None):
        return own_identity().public.hex()


def test_who_shares_nothing_has_no_key(tmp_path, person):
    with person("ada", zone=None):
        assert doubled(1) == 2
        assert doubled.submit(2).result() == 4
        assert CliRunner().invoke(cli, ["trust", "list"]).exit_code == 0
    assert not (tmp_path / "users/ada").exists()


def test_own_results_count_on_every_machine(lab, person):
    with person("ada", "-one"):
        assert doubled(1) == 2 and list(opaque(2)) == [2]
    with person("ada", "-two"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert doubled(1) == 2 and list(opaque(2)) == [2]
    assert RAN == [1, 2]


def test_results_of_a_stranger_are_a_miss_and_that_is_said_once(lab, person):
    with person("bob"):
        assert [doubled(i) for i in range(3)] == [0, 2, 4]
    with person("ada"), pytest.warns(ZoneWarning) as said:
        assert [doubled(i) for i in range(3)] == [0, 2, 4]
    assert RAN == [0, 1, 2] * 2
    assert len(said) == 1
    assert f"kachery trust add {key_of(person, 'bob')}" in str(said[0].message)
    with person("ada"):  # and what was computed here stays
        assert doubled(1) == 2
    assert len(RAN) == 6


def test_a_trusted_key_counts(lab, person):
    with person("bob"):
        doubled(1)
    bob = key_of(person, "bob")
    with person("ada"), warnings.catch_warnings():
        warnings.simplefilter("error")
        trust(Trusted(bob, "Bob"))
        assert doubled(1) == 2
        assert signers(doubled.job(1).record) == (bob,)
    assert RAN == [1]


def test_show_tells_who_signed(lab, person):
    with person("bob"):
        doubled(1)
        job_id = doubled.job(1).id
        assert "signed by" not in CliRunner().invoke(cli, ["show", job_id]).output
    bob = key_of(person, "bob")
    with person("ada"):
        trust(Trusted(bob, "Bob of the lab"))
        doubled(1)
        shown = CliRunner().invoke(cli, ["show", job_id]).output
        assert f"signed by    {bob} Bob of the lab\n" in shown
        told = json.loads(CliRunner().invoke(cli, ["show", "--json", job_id]).output)
        assert told["signers"] == [bob]


def test_trust_is_for_a_task(lab, person):
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob"), task="lab.other:*"))
        with pytest.warns(ZoneWarning, match="not for 'test_trust:doubled'"):
            doubled(1)
    assert RAN == [1, 1]
    with person("carol"):
        trust(Trusted(key_of(person, "bob"), task="test_trust:*"))
        doubled(1)
    assert RAN == [1, 1]


def test_trust_is_for_a_zone(lab, person):
    for zone in ("lab", "other"):
        with person("bob", zone, zone):
            doubled(1)
    assert len(RAN) == 2
    with person("ada", zone="other"):
        trust(Trusted(key_of(person, "bob"), zone="lab"))
        with pytest.warns(ZoneWarning, match="not for"):
            doubled(1)
    assert len(RAN) == 3
    with person("ada", "-two"):
        doubled(1)
    assert len(RAN) == 3


def test_trust_ends(lab, person):
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob"), until=time.time() + 1000))
        doubled(1)
        trust(Trusted(key_of(person, "bob"), until=time.time() - 1))
        with pytest.warns(ZoneWarning, match="trusted until"):
            doubled(1)
    assert RAN == [1, 1]


def test_pickles_need_trust_for_pickles(lab, person):
    with person("bob"):
        opaque(1)
    bob = key_of(person, "bob")
    with person("ada"):
        trust(Trusted(bob))
        with pytest.warns(ZoneWarning, match=f"trust add {bob} --pickle"):
            assert list(opaque(1)) == [1]
        assert RAN == [1, 1]
    with person("carol"):
        trust(Trusted(bob, pickle=True))
        assert list(opaque(1)) == [1]
        assert RAN == [1, 1]
        distrust(bob)
        trust(Trusted(bob))
        with pytest.warns(ZoneWarning, match="--pickle"):
            assert list(opaque(1)) == [1]
        assert RAN == [1, 1, 1]


def test_revoking_counts_at_once_and_for_what_is_here(lab, person):
    with person("bob"):
        doubled(1)
        doubled(2)
    bob = key_of(person, "bob")
    with person("ada"):
        trust(Trusted(bob))
        doubled(1)
        doubled(2)
        assert len(RAN) == 2
        job = doubled.job(1)
        assert job.cached
        distrust(bob)
        with kachery.using(zone=None), pytest.warns(ZoneWarning, match="does not count now"):
            assert not doubled.job(1).cached
        with pytest.warns(ZoneWarning, match="do not trust"):  # the zone still has it
            assert doubled(1) == 2
        assert RAN == [1, 2, 1]
        assert doubled(1) == 2
        trust(Trusted(bob))
        assert doubled(2) == 4
        assert RAN == [1, 2, 1]


def test_revoking_counts_in_a_process_that_runs(lab, person, tmp_path, project):
    write(
        project / "revoked.py",
        """
        import sys, warnings, kachery
        @kachery.task(version="1")
        def f(x): return x
        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            for line in sys.stdin:
                print(f.job(1).cached, flush=True)
        """,
    )
    with person("bob"):
        run_python("import revoked; revoked.f(1)", env=_environment())
    with person("ada"):
        bob = key_of(person, "bob")
        with subprocess.Popen(
            [sys.executable, str(project / "revoked.py")],
            env={**os.environ, **_environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:

            def cached():
                child.stdin.write("\n")
                child.stdin.flush()
                return child.stdout.readline().strip()

            shown = [cached()]
            trust(Trusted(bob))
            shown.append(cached())
            distrust(bob)
            shown.append(cached())
        assert shown == ["False", "True", "False"]


def _environment():
    settings = current()
    return {
        "KACHERY_DIR": settings.root,
        "KACHERY_ZONE": settings.zone_settings().name,
        "KACHERY_USER_DIR": os.environ["KACHERY_USER_DIR"],
    }


def test_what_waited_for_the_zone_is_signed(lab, person, tmp_path):
    with person("ada"):
        uplink = current().store.uplink
        with pytest.warns(ZoneWarning, match="a cable"):
            uplink.zone.went_away(OSError("a cable"))
        doubled(1)
        uplink.zone.is_back()
        kachery.push()
    with person("ada", "-two"):
        assert doubled(1) == 2
    assert RAN == [1]


def test_pushed_and_pulled_with_trust(lab, person):
    with person("ada", zone=None):
        doubled(1)
    with person("ada"):
        job = doubled.job(1)
        kachery.push(job)
    with person("bob"):
        with pytest.warns(ZoneWarning), pytest.raises(LookupError, match="do not trust"):
            kachery.pull(job.uri)
        trust(Trusted(key_of(person, "ada")))
        kachery.pull(job.uri)
    with person("bob", zone=None):
        assert doubled(1) == 2
    assert RAN == [1]


def test_somebody_elses_record_keeps_the_signature_on_its_way(lab, person):
    """Who hands on what another has computed does not vouch for it."""
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob")))
        kachery.pull(doubled.job(1).uri)
    with person("ada", zone="other"):
        kachery.push(doubled.job(1))
    with person("carol", zone="other"):
        trust(Trusted(key_of(person, "ada")))
        with pytest.warns(ZoneWarning, match=key_of(person, "bob")):
            doubled(1)
    assert RAN == [1, 1]


def test_a_result_of_the_local_store_has_no_signature(person, lab):
    with person("ada"):
        doubled(1)
        assert signers(doubled.job(1).record) == ()


def test_a_damaged_list_of_keys_trusts_nobody_and_says_so(lab, person, tmp_path):
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob")))
        doubled(1)
        path = tmp_path / "users/ada/trusted-keys.json"
        path.write_text(path.read_text().replace('"zone": null', '"zone": 3'))
        with pytest.raises(BadKey, match=r"trusted-keys\.json"):
            doubled(1)
        path.write_text("{")
        with pytest.raises(BadKey, match="damaged"):
            trusted_keys()


@pytest.mark.parametrize("lab", ["folder"], indirect=True)
@pytest.mark.parametrize("executor", ["processes", "cluster"])
def test_workers_sign_for_the_user_without_the_users_key(
    lab, person, executor, tmp_path, monkeypatch, cluster
):
    from distributed import Client

    with person("ada") as _, Client(cluster) if executor == "cluster" else nothing() as client:
        own = own_identity().public.hex()
        options = {"client": client} if client else {"executor": "processes", "client": None}
        with kachery.using(**options):
            assert kachery.gather(doubled.map([1, 2, 3])) == [2, 4, 6]
    with person("ada", "-two"):
        assert doubled(1) == 2
        assert signers(doubled.job(1).record) == (own,)
    assert RAN == []


@contextmanager
def nothing():
    yield None


def test_orders_hold_no_private_key(lab, person):
    from kachery_tasks.orders import Orders

    with person("ada"):
        orders = Orders(current())
        orders.begin()
        order = orders.order(doubled.job(1), [], {}, keep_value=False)
        private = json.loads(export_identity())["private"]
        assert delegated().seed in order.standing
        assert bytes.fromhex(private) not in order.standing
        assert private.encode() not in order.standing
        assert delegated().seed.hex() not in repr((order, delegated()))


def _told(credentials):
    """The settings in force, on a worker that was told these."""
    changed = current().changed()
    changed.credentials = credentials
    return changed


def test_what_a_worker_makes_after_its_time_does_not_count(lab, person, monkeypatch):
    from kachery_tasks.credentials import credentials

    with person("ada"):
        told = credentials(signing=True)
    old = told.delegated.certificate
    with person("ada"):
        own = own_identity()
    from kachery_store.identity import Certificate, _delegation

    until = int(time.time()) - 10_000
    ended = Certificate(old.public, until, own.sign(_delegation(old.public, until)))
    late = told._replace(delegated=replace(told.delegated, certificate=ended))
    with person("ada"), applied(_told(late)):
        data = signed(doubled_record(), late.delegated.identity())
        refused = objection(doubled.job(1).id, data, "lab")
        assert "in the place of key" in refused.text
        RAN.clear()
        with pytest.warns(ZoneWarning, match="this worker could sign"):
            doubled(2)  # it does not even try, and keeps the record for who may
    with person("ada"):
        assert doubled(2) == 4
        current().store.uplink.zone.accepted()
        kachery.push()
    with person("ada", "-two"):
        assert doubled(2) == 4
    assert RAN == [2]


def doubled_record():
    with kachery.using(zone=None):
        doubled(1)
        return current().store.jobs.read(doubled.job(1).id)


def test_a_worker_with_an_identity_of_its_own_signs_with_that(lab, person, monkeypatch, tmp_path):
    from kachery_tasks.credentials import credentials

    with person("ada"):
        told = credentials(signing=True)
    with person("robot", zone=None):
        text = export_identity()
        robot = own_identity().public.hex()
    with person("other"), applied(_told(told)):
        monkeypatch.setenv("KACHERY_IDENTITY", text)
        doubled(1)
        monkeypatch.delenv("KACHERY_IDENTITY")
    with person("ada"):
        trust(Trusted(robot))
        doubled(1)
        assert signers(doubled.job(1).record) == (robot,)
    assert RAN == [1]


# Actions


@kachery.action(version="1")
def announced(x):
    RAN.append(x)


def test_what_a_stranger_says_of_an_action_is_no_outcome(lab, person):
    with person("bob"):
        announced(1)
    with person("ada"), pytest.raises(kachery.OutcomeUnknown, match="do not trust"):
        announced(1)
    with person("ada", "-two"):
        trust(Trusted(key_of(person, "bob"), task="*:announced"))
        announced(1)
    assert RAN == [1]


def test_a_stranger_cannot_have_an_action_done_twice(lab, person):
    """Who says that a run has not begun would have it begin again."""
    from kachery_tasks.watching import Place

    with person("ada"):
        announced(1)
        job_id = announced.job(1).id
        finished = Place(current().store, job_id).log().look()
    with person("mallory"):
        log = Place(current().store, job_id).log()
        log._count, log.last = 2, None
        assert log.add(finished._replace(state="pending"))
    with person("ada"):
        announced(1)
    with person("ada", "-two"):
        announced(1)
    assert RAN == [1]


def test_a_claim_counts_whoever_makes_it(lab, person):
    """Else two would do the same at the same time."""
    from kachery_tasks.watching import Place

    with person("ada"):
        announced(1)
        running = Place(current().store, announced.job(1).id).log().look()
    with person("mallory"):
        job_id = announced.job(2).id
        claim = running._replace(job_id=job_id, state="running", run="ab" * 32)
        assert Place(current().store, job_id).log().add(claim)
    with person("ada"):
        assert Place(current().store, job_id).log().look().state == "running"


# What hostile reviewers found


def lie(job_id, x):
    """A record of another run of the same job, with another result, as an honest program writes it."""
    with kachery.using(zone=None):
        doubled(x)
        store = current().store
        record = Record.from_bytes(store.jobs.read(doubled.job(x).id), doubled.job(x).id)
        store.jobs.remove(record.job_id)
    wrong = encode(-1)
    result = record.result._replace(address=wrong.address, inline=bytes(wrong.data))
    return record._replace(job_id=job_id, result=result).to_bytes()


def put(data, job_id, zone="lab"):
    with kachery.using(zone=zone):
        current().store.zone.backend.replace(f"jobs/{job_id[:2]}/{job_id}", data)


MALLORY = Identity(Signer(b"m" * 32))


@kachery.task(version="1")
def asks(n):
    return kachery.gather(doubled.map(range(n)))


@pytest.mark.parametrize("lab", ["folder"], indirect=True)
def test_jobs_inside_jobs_are_judged_for_the_client(lab, person, cluster, tmp_path):
    """And not by the account of the worker, which may trust anybody."""
    from distributed import Client

    with person("mallory"):
        for x in range(3):
            job_id = doubled.job(x).id
            put(signed(lie(job_id, x), MALLORY), job_id)
    with person("service"):
        trust(Trusted(MALLORY.public.hex()))
    before = os.environ["KACHERY_USER_DIR"]
    with Client(cluster) as client:
        try:
            client.run(_set_user, str(tmp_path / "users/service"))
            with person("ada"), kachery.using(client=client):
                assert asks.submit(3).result(60) == [0, 2, 4]
        finally:
            client.run(_set_user, before)


def _set_user(folder):
    os.environ["KACHERY_USER_DIR"] = folder


def test_users_of_one_scheduler_share_runs_only_if_they_believe_the_same_people(lab, person):
    from kachery_tasks.orders import Orders

    def mark():
        orders = Orders(current())
        orders.begin()
        return orders.mark

    with person("ada"):
        ada = mark()
        assert mark() == ada != ""
        trust(Trusted(MALLORY.public.hex()))
        assert mark() != ada
    with person("bob"):
        assert mark() != ada
    with person("nobody", zone=None):
        assert mark() == ""


def test_jobs_that_were_found_before_revoking_are_not_served_after_it(lab, person):
    with person("bob"):
        doubled(1)
        opaque(1)
    bob = key_of(person, "bob")
    with person("ada"):
        trust(Trusted(bob, pickle=True))
        jobs = [doubled.submit(1), opaque.submit(1)]
        assert [job.record is not None for job in jobs] == [True, True] and len(RAN) == 2
        distrust(bob)
        with pytest.warns(ZoneWarning):
            assert jobs[0].result() == 2 and list(jobs[1].result()) == [1]
        assert RAN == [1, 1, 1, 1]


def test_a_scoped_key_says_nothing_of_other_actions(lab, person):
    from kachery_tasks.watching import Place

    with person("bob"):
        announced(1)
        finished = Place(current().store, announced.job(1).id).log().look()
    with person("mallory"):
        job_id = announced.job(2).id
        said = finished._replace(job_id=job_id, action="lab.filters:x")
        assert Place(current().store, job_id).log().add(said)
    RAN.clear()
    with person("ada"):
        trust(Trusted(key_of(person, "mallory"), task="lab.filters:*"))
        with pytest.raises(kachery.OutcomeUnknown):
            announced(2)
        assert Place(current().store, job_id).log().look().state == "unknown"
    assert RAN == []


@kachery.query(version="1")
def asked(x):
    RAN.append(x)
    return x


def test_a_scoped_key_says_nothing_of_other_queries(lab, person):
    with person("ada"):
        asked(1)
        (record,) = [one.record for one in asked.history(1)]
        data = record._replace(task="lab.filters:x").to_bytes()
        put(signed(data, MALLORY), record.job_id)
        store = current().store
        store.jobs.drop(record.job_id, store.jobs.read(record.job_id))
        trust(Trusted(MALLORY.public.hex(), task="lab.filters:*"))
        with pytest.warns(ZoneWarning, match="says that it is of"):
            assert asked.history(1) == []


def test_a_worker_without_a_zone_judges_for_the_client(lab, person):
    from kachery_tasks.orders import Orders
    from kachery_tasks.worker import carry_out

    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob")))
        doubled(1)
    with person("ada", zone=None):
        orders = Orders(current())
        orders.begin()
        order = orders.order(doubled.job(1), [], {}, keep_value=False)
    with person("robot", zone=None):
        carry_out(order)
    with person("ada", zone=None):
        assert doubled.job(1).cached
    assert RAN == [1]


def test_what_cannot_be_sent_is_told(lab, person):
    with person("bob"):
        doubled(1)
    with person("ada", zone=None):
        doubled(1)
    with person("ada"):
        with pytest.raises(NotTrusted, match="cannot be sent"):
            kachery.push(doubled.job(1))
        uplink, item = current().store.uplink, Item("jobs", doubled.job(1).id)
        uplink.outbox.add(item, durable=False)
        ((lost, why),) = uplink.push()
        assert lost == item and "do not trust" in why and uplink.outbox.is_empty()


def test_what_is_damaged_in_the_zone_is_sent_again(lab, person):
    with person("ada"):
        doubled(1)
        job_id = doubled.job(1).id
        put(b"cut", job_id)
        kachery.push(doubled.job(1))
    with person("ada", "-two"):
        assert doubled(1) == 2
    assert RAN == [1]


def test_a_scoped_record_does_not_take_the_place_of_ones_own(lab, person):
    with person("ada", zone=None):
        doubled(1)
        job_id = doubled.job(1).id
        mine = current().store.jobs.read(job_id)
    with person("mallory"):
        data = record_in(lie(job_id, 5))._replace(task="lab.filters:x").to_bytes()
        put(signed(data, MALLORY), job_id)
    with person("ada"):
        trust(Trusted(MALLORY.public.hex(), task="lab.filters:*"))
        with pytest.raises(NotTrusted, match="another task"):
            kachery.push(doubled.job(1))
        assert current().store.jobs.read(job_id) == mine


def test_a_flood_of_strangers_is_not_a_flood_of_warnings(lab, person):
    with person("mallory"):
        for x in range(40):
            job_id = doubled.job(x).id
            put(signed(lie(job_id, x), Identity(Signer(bytes([x]) * 32))), job_id)
    with person("ada"), pytest.warns(ZoneWarning) as said:
        assert [doubled(x) for x in range(40)] == [2 * x for x in range(40)]
    assert len(said) <= 20


def test_a_key_that_cannot_be_used_does_not_hide_what_others_have_signed(lab, person, tmp_path):
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob")))
        own_identity()
        (tmp_path / "users/ada/identity.json").chmod(0o644)
        with pytest.warns(ZoneWarning, match="read or changed by others"):
            assert doubled(1) == 2
    assert RAN == [1]


# Keys


def test_the_key_is_for_the_user_alone(person, tmp_path):
    with person("ada", zone=None):
        shown = CliRunner().invoke(cli, ["id"])
        assert shown.exit_code == 0, shown.output
        key = own_identity().public.hex()
        assert shown.output.startswith(key)
        path = tmp_path / "users/ada/identity.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert own_identity().public.hex() == key
        path.chmod(0o644)
        with pytest.raises(BadKey, match="read or changed by others"):
            own_identity()


def test_processes_that_make_the_key_at_once_make_one(tmp_path):
    program = "from kachery_store.identity import own_identity; print(own_identity().public.hex())"
    env = {**os.environ, "KACHERY_USER_DIR": str(tmp_path / "fresh")}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    assert len({child.communicate(timeout=60)[0] for child in children}) == 1


def test_export_and_import(person, tmp_path):
    run = CliRunner().invoke
    with person("ada", zone=None):
        shown = run(cli, ["id", "export", str(tmp_path / "key")])
        assert shown.exit_code == 0, shown.output
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        key = own_identity().public.hex()
        with pytest.raises(OSError, match="cannot be written"):
            cli(["id", "export", str(tmp_path / "key")], standalone_mode=False)
    with person("ada-at-home", zone=None):
        shown = run(cli, ["id", "import", str(tmp_path / "key")])
        assert shown.exit_code == 0 and shown.output.startswith(key), shown.output
        assert own_identity().public.hex() == key
        assert run(cli, ["id", "import", str(tmp_path / "key")]).exit_code == 0  # the same again
    with person("bob", zone=None):
        earlier = own_identity().public.hex()
        with pytest.raises(KacheryError, match="--replace"):
            import_identity((tmp_path / "key").read_text())
        assert own_identity().public.hex() == earlier
        shown = run(cli, ["id", "import", "--replace", str(tmp_path / "key")])
        assert own_identity().public.hex() == key
        assert [one.key for one in trusted_keys()] == [earlier]


def test_identity_of_the_environment(person, tmp_path, monkeypatch):
    with person("ada", zone=None):
        text, key = export_identity(), own_identity().public
    path = tmp_path / "key.json"
    path.touch(0o600)
    path.write_text(text)
    with person("cluster", zone=None):
        for given in (str(path), text):
            monkeypatch.setenv("KACHERY_IDENTITY", given)
            assert own_identity().public == key
            assert json.loads(export_identity())["public"] == key.hex()
        for given, match in ((f"{path}x", "not there"), ("{", "no identity"), ("{}", "format")):
            monkeypatch.setenv("KACHERY_IDENTITY", given)
            with pytest.raises(BadKey, match=match):
                identity()
        monkeypatch.delenv("KACHERY_IDENTITY")
        assert identity() is None
    assert not (tmp_path / "users/cluster").exists()


def test_without_a_key_that_can_be_used_work_goes_on_here(lab, person, tmp_path, monkeypatch):
    monkeypatch.setenv("KACHERY_IDENTITY", str(tmp_path / "nowhere"))
    with person("ada"), pytest.warns(ZoneWarning, match="cannot be read"):
        assert doubled(1) == 2
    monkeypatch.delenv("KACHERY_IDENTITY")
    with person("ada"):
        assert doubled(1) == 2
        current().store.uplink.zone.is_back()
        kachery.push()
    with person("ada", "-two"):
        assert doubled(1) == 2
    assert RAN == [1]


# Commands


def test_trust_commands(person):
    run = CliRunner().invoke
    key = Signer(bytes(32)).public.hex()
    with person("ada", zone=None):
        assert "no key is trusted" in run(cli, ["trust", "list"]).output
        options = ["--name", "Bob", "--zone", "lab", "--task", "a:*", "--pickle", "--expires", "1d"]
        shown = run(cli, ["trust", "add", key, *options])
        assert shown.exit_code == 0, shown.output
        listed = run(cli, ["trust", "list"]).output
        for word in (key, "Bob", "only zone lab", "only tasks a:*", "also pickles", "until"):
            assert word in listed
        assert run(cli, ["trust", "add", key]).exit_code == 0
        assert len(trusted_keys()) == 2  # for different things
        assert run(cli, ["trust", "add", key, "--name", "Bob"]).exit_code == 0
        assert len(trusted_keys()) == 2  # the same, named
        assert run(cli, ["trust", "remove", key]).exit_code == 0
        assert trusted_keys() == ()
        for wrong in (["add", "abc"], ["add", key, "--expires", "soon"], ["remove", key]):
            with pytest.raises(KacheryError):
                cli(["trust", *wrong], standalone_mode=False)
        with pytest.raises(KacheryError, match="your own"):
            cli(["trust", "add", own_identity().public.hex()], standalone_mode=False)


def test_a_signature_is_always_the_same():
    """So what is sent twice is the same bytes."""
    one = Identity(Signer(b"1" * 32))
    assert one.sign(b"x") == Identity(Signer(b"1" * 32)).sign(b"x")


# The format


@pytest.mark.parametrize("vector", json.loads(PATH.read_text()), ids=lambda one: one["what"])
def test_vectors(vector):
    data = bytes.fromhex(vector["file"])
    if "error" in vector:
        with pytest.raises(ValueError, match=r"signature|written|key|certificate|scheme|kind"):
            signatures_of(data)
        return
    found = [{"key": one.key.hex(), "until": one.until} for one in signatures_of(data)]
    assert found == vector["signers"]
    assert is_signed(data) == bool(found)


def test_the_vectors_are_what_kachery_writes():
    assert json.loads(PATH.read_text()) == vectors()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_byte_of_a_signed_file_can_be_changed(data):
    whole = bytearray.fromhex(next(v["file"] for v in vectors() if "worker in" in v["what"]))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ValueError, DigestMismatch, StoreTooNew)):
        unseal(bytes(whole), "kachery record", 1, "it")
        signatures_of(bytes(whole))
