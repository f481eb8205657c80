"""Keys, signatures and trust: whose results are used, and whose are not."""

import json
import os
import stat
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

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
from kachery_store.signing import Signer
from kachery_tasks.sealed import is_signed, signatures_of, unseal
from kachery_tasks.settings import current
from kachery_tasks.trust import signers
from kachery_tasks.trusted_keys import Trusted, distrust, trust, trusted_keys

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
        assert signers(current().store.jobs.read(doubled.job(1).id)) == (bob,)
    assert RAN == [1]


def test_trust_is_for_a_task(lab, person):
    with person("bob"):
        doubled(1)
    with person("ada"):
        trust(Trusted(key_of(person, "bob"), task="lab.other:*"))
        with pytest.warns(ZoneWarning, match="not for test_trust:doubled"):
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
        assert signers(current().store.jobs.read(doubled.job(1).id)) == ()


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
        assert signers(current().store.jobs.read(doubled.job(1).id)) == (own,)
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


def test_what_a_worker_makes_after_its_time_does_not_count(lab, person, monkeypatch):
    from kachery_tasks.trust import acting_for, credentials

    with person("ada"):
        told = credentials(signing=True)
    old = told.delegated.certificate
    with person("ada"):
        own = own_identity()
    from kachery_store.identity import Certificate, _delegation

    until = int(time.time()) - 10_000
    ended = Certificate(old.public, until, own.sign(_delegation(old.public, until)))
    told = told._replace(delegated=told.delegated._replace(certificate=ended))
    with person("ada"), acting_for(told):
        doubled(1)
    with person("ada", "-two"), pytest.warns(ZoneWarning, match="in the place of key"):
        doubled(1)
    assert RAN == [1, 1]


def test_a_worker_with_an_identity_of_its_own_signs_with_that(lab, person, monkeypatch, tmp_path):
    from kachery_tasks.trust import acting_for, credentials

    with person("ada"):
        told = credentials(signing=True)
    with person("robot", zone=None):
        text = export_identity()
        robot = own_identity().public.hex()
    with person("other"), acting_for(told):
        monkeypatch.setenv("KACHERY_IDENTITY", text)
        doubled(1)
        monkeypatch.delenv("KACHERY_IDENTITY")
    with person("ada"):
        trust(Trusted(robot))
        doubled(1)
        assert signers(current().store.jobs.read(doubled.job(1).id)) == (robot,)
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
        for given, match in ((f"{path}x", "no such file"), ("{", "no identity"), ("{}", "format")):
            monkeypatch.setenv("KACHERY_IDENTITY", given)
            with pytest.raises(BadKey, match=match):
                identity()
        monkeypatch.delenv("KACHERY_IDENTITY")
        assert identity() is None
    assert not (tmp_path / "users/cluster").exists()


def test_without_a_key_that_can_be_used_work_goes_on_here(lab, person, tmp_path, monkeypatch):
    monkeypatch.setenv("KACHERY_IDENTITY", str(tmp_path / "nowhere"))
    with person("ada"), pytest.warns(ZoneWarning, match="no such file"):
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
