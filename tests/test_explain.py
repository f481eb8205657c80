"""Why a call is a hit or a miss, what is kept of it, and whether it gives the same again."""

import decimal
import functools
import importlib
import json
import random

import numpy as np
import pytest
from conftest import note_call, run_python, write
from test_surface import kachery_command

import kachery


@kachery.task
def threshold(image, threshold=0.5, config=None):
    return (image > threshold).sum()


def explained(explanation, component):
    """The one difference of that component, as text."""
    [found] = [str(d) for d in explanation.differences if component in d.component]
    return found


def test_arguments_in_words():
    image = np.zeros((4, 5))
    first = threshold.explain(image)
    assert not first.hit and first.nearest is None and "no job of" in str(first)
    threshold(image)
    assert threshold.explain(image).hit and "hit: " in str(threshold.explain(image))
    other = threshold.explain(image, 0.3)
    assert not other.hit and other.nearest.job_id == threshold.job(image).id
    assert [str(d) for d in other.differences] == ["argument `threshold`: 0.3 here, 0.5 there"]
    content = str(threshold.explain(image + 1).differences[0])
    assert "same type, dtype and shape (numpy.ndarray float64 (4, 5)), other content" in content
    shape = str(threshold.explain(image[:2]).differences[0])
    assert "(2, 5) here" in shape and "(4, 5) there" in shape
    config = str(threshold.explain(image, config={"a": [1, "x"]}).differences[0])
    assert config == "argument `config`: {'a': [1, 'x']} here, None there"
    assert "str of 0" not in str(threshold.explain(image, config="text"))


def test_the_nearest_job_is_the_one_with_the_fewest_differences():
    image = np.zeros(3)
    for level, config in ((0.5, "a"), (0.7, "b"), (0.9, "b")):
        threshold(image, level, config)
    near = threshold.explain(image, 0.6, "a")
    assert near.nearest.job_id == threshold.job(image, 0.5, "a").id
    newest = threshold.explain(image, 0.6, "b")  # two are as near
    assert newest.nearest.job_id == threshold.job(image, 0.9, "b").id


STEPS = """
    import logging
    import numpy as np
    import kachery

    RATE = 3
    MODE = "a password"
    log = logging.getLogger(__name__)

    class Model:
        def predict(self, x):
            return x + 1

    def smooth(x):
        '''Make it smooth.'''
        return x * RATE

    @kachery.task(ignore="verbose", depends="numpy")
    def f(x, model=None, *, verbose=False):
        log.info(MODE)
        return np.mean(smooth(x))
    """


def test_code_in_words(project):
    write(project / "steps.py", STEPS)
    steps = importlib.import_module("steps")
    steps.f(2)
    write(project / "steps.py", STEPS.replace("x * RATE", "x * RATE - 1").replace("= 3", "= 4"))
    importlib.reload(steps)
    explanation = steps.f.explain(2)
    assert not explanation.hit
    smooth = explained(explanation, "code: `steps:smooth`")
    assert "-    return x * RATE" in smooth and "+    return x * RATE - 1" in smooth
    rate = explained(explanation, "RATE")
    assert rate == "code: the global `RATE` that `steps:smooth` reads: 4 here, 3 there"
    assert len(explanation.differences) == 2


def test_constants_classes_functions_versions_in_words(project):
    write(project / "steps.py", STEPS)
    steps = importlib.import_module("steps")
    steps.f(2, steps.Model())
    steps.f(3, steps.smooth)
    write(project / "steps.py", STEPS.replace("x + 1", "x + 2").replace("smooth.'''", "'''"))
    importlib.reload(steps)
    explanation = steps.f.explain(2, steps.Model())
    [difference] = explanation.differences
    assert "code of steps:Model among the arguments: `steps:Model.predict`" in difference.component
    assert "+    return x + 2" in str(explanation)
    assert steps.f.explain(3, steps.smooth).hit  # only its docstring is another one


def test_what_is_covered_and_what_is_not(project):
    write(project / "steps.py", STEPS)
    steps = importlib.import_module("steps")
    covered = steps.f.explain(1).coverage
    assert covered.code == ["steps:f", "steps:smooth"]
    assert ("the global `RATE` that `steps:smooth` reads", "3") in covered.constants
    assert covered.versions == {"numpy": np.__version__}
    assert covered.installed == ["numpy:mean"]
    assert [kind for _, kind in covered.inert] == ["logging.Logger"]
    text = str(steps.f.explain(1))
    assert "logging.Logger" in text and "arguments in ignore=: verbose" in text
    assert "password" not in text  # it may come from the environment of the program


def test_constants_that_are_texts_are_not_kept(project, store_dir):
    write(project / "steps.py", STEPS.replace('"a password"', "str(12) + 'hidden'"))
    steps = importlib.import_module("steps")
    steps.f(2)
    kept = [p.read_bytes() for p in store_dir.rglob("*") if p.is_file()]
    assert kept and not any(b"12hidden" in data for data in kept)


def test_version_in_words(project):
    write(project / "v.py", "import kachery\n@kachery.task(version='1')\ndef f(x):\n    return x\n")
    v = importlib.import_module("v")
    v.f(1)
    write(project / "v.py", "import kachery\n@kachery.task(version='2')\ndef f(x):\n    return x\n")
    importlib.reload(v)
    assert [str(d) for d in v.f.explain(1).differences] == ["version: '2' here, '1' there"]


def test_jobs_among_the_arguments():
    inner = threshold.job(np.zeros(3))
    with pytest.raises(kachery.KacheryError, match="threshold"):
        threshold.explain(inner)
    threshold(np.int64(0))
    inner.result()
    assert threshold.explain(inner).hit


def test_the_command(project):
    write(project / "steps.py", STEPS)
    steps = importlib.import_module("steps")
    steps.f(2)
    steps.f(3)
    a, b = steps.f.job(2).id, steps.f.job(3).id
    shown = kachery_command("explain", a[:12], b[:12]).stdout
    assert f"compared with job {b}" in shown and "argument `x`: 2 here, 3 there" in shown
    assert "steps:smooth" in shown and "logging.Logger" in shown
    assert "argument `x`: 3 here, 2 there" in kachery_command("explain", b).stdout
    missing = kachery_command("explain", "00ff")
    assert missing.returncode == 1 and "no job 00ff" in missing.stderr


def test_a_damaged_description_is_said_and_done_without(project, store_dir):
    write(project / "steps.py", STEPS)
    steps = importlib.import_module("steps")
    steps.f(2)
    write(project / "steps.py", STEPS.replace("x * RATE", "x / RATE"))
    importlib.reload(steps)
    [kept] = [p for p in store_dir.glob("code/*/*") if b"x * RATE" in p.read_bytes()]
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes().replace(b"x * RATE", b"x ^ RATE"))
    with pytest.warns(kachery.DamagedWarning):
        explanation = steps.f.explain(2)
    assert "not the same code" in explained(explanation, "code")


# Secrets


@kachery.task(secret="token")
def fetched(url, token="hidden default"):
    return len(token)


def test_nothing_is_kept_of_a_secret(store_dir):
    fetched("url", token="hidden one")
    fetched("url")
    assert fetched("url", token="other") == 5
    files = [p.read_bytes() for p in store_dir.rglob("*") if p.is_file()]
    assert not any(b"hidden" in data for data in files if b"kachery code" not in data[:20])
    job = fetched.job("url", token="hidden one")
    [kept] = [argument for argument in job.record.arguments if argument[0] == "token"]
    assert kept == ["token", b"", "secret"]
    assert "token is secret" in kachery_command("show", job.id).stdout
    difference = fetched.explain("url", token="new").differences
    assert [str(d) for d in difference] == ["argument `token`: another secret value"]
    with pytest.raises(ValueError, match="secret= names 'tokem'"):
        kachery.task(secret="tokem")(lambda token: 0)


# Opaque values


class Odd(decimal.Context):
    """What has no encoding: it holds more than attributes."""


@kachery.task(opaque="return")
def train(precision, calls=None):
    return {"model": Odd(prec=precision), "score": 1.5}


@kachery.task
def predict(model, x):
    return model.prec * x


@kachery.task(opaque="model")
def predict_any(model, x):
    return model.prec + x


@kachery.task
def model_in(trained):
    return trained["model"]


def test_opaque_values_are_known_by_the_job_that_made_them():
    with pytest.raises(kachery.CannotEncode, match=r"opaque=\(...\)"):
        predict(Odd(prec=3), 1)
    model = train(3)["model"]
    assert type(model) is Odd and predict(model, 2) == 6
    again = train(3)["model"]  # from the store
    assert again is not model and again.prec == 3
    assert predict.job(again, 2).cached
    assert predict.job(train(4)["model"], 2).id != predict.job(model, 2).id
    nested = train.job(3)
    assert predict.job(nested, 2).id is not None  # the address is known without the value
    model.prec = 7  # now it is not what the job made
    with pytest.raises(kachery.CannotEncode):
        predict(model, 2)
    assert predict(again, 2) == 6


def test_opaque_values_pass_through_tasks_and_processes(tmp_path):
    job = predict.job(model_in.job(train.job(5)), 2)
    assert job.result() == 10
    assert predict.job(model_in(train(5)), 2).id == job.id
    write(
        tmp_path / "opaque_script.py",
        """
        import decimal, sys, kachery

        class Odd(decimal.Context):
            pass

        @kachery.task(opaque="return")
        def train(x):
            print("trained")
            return Odd(prec=x)

        @kachery.task
        def predict(model):
            print("predicted")
            return model.prec

        print(predict(train(3)), predict.job(train.job(3)).id)
        """,
    )
    script = tmp_path / "opaque_script.py"
    first, second = (
        run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
        for _ in range(2)
    )
    assert first.stdout.startswith("trained\npredicted\n3 ")
    assert second.stdout == first.stdout.split("\n", 2)[2]


def test_opaque_arguments_are_known_by_their_pickle(calls):
    assert predict_any(Odd(prec=3), 1) == 4
    assert predict_any.job(Odd(prec=3), 1).cached
    assert not predict_any.job(Odd(prec=4), 1).cached

    @kachery.task(opaque="model")
    def careless(model):
        model.prec += 1
        return 1

    with pytest.warns(kachery.ImpureTaskWarning, match="model"):
        careless(Odd(prec=3))


def test_the_code_of_an_opaque_class_counts(project):
    text = """
    import decimal
    class Odd(decimal.Context):
        def use(self):
            return 1
    """
    write(project / "odd.py", text)
    odd = importlib.import_module("odd")
    before = predict_any.job(odd.Odd(prec=3), 1).id
    assert predict_any.job(odd.Odd(prec=3), 1).id == before
    write(project / "odd.py", text.replace("return 1", "return 2"))
    importlib.reload(odd)
    assert predict_any.job(odd.Odd(prec=3), 1).id != before


def test_opaque_on_a_cluster(client):
    assert predict.submit(model_in.submit(train.submit(6)), 2).result() == 12
    assert predict.job(train(6)["model"], 2).cached


def test_functions_as_results():
    @kachery.task
    def made(x):
        return functools.partial(max, x)

    @kachery.task(opaque="return")
    def made_opaque(x):
        return functools.partial(max, x)

    with pytest.warns(kachery.NotStoredWarning, match="opaque='return'"):
        made(3)
    assert made_opaque(3)(5) == 5 and made_opaque.job(3).cached and made_opaque(3)(5) == 5


# Reproducing


@kachery.task
def sampled(n, path):
    note_call(path)
    return {"fixed": n, "drawn": [random.random(), 1], "array": np.ones(3) * random.random()}


def test_reproduce_finds_nondeterminism(calls):
    first = sampled(1, calls.path)
    assert calls.count == 1
    again = sampled.reproduce(1, calls.path)
    assert calls.count == 2 and not again and not again.same
    assert len(again.differences) == 2
    assert again.differences[0].startswith("result['drawn'][0]: 0.")
    assert "3 of 3 elements differ" in again.differences[1]
    assert "different" in str(again) and "the first one stays" in str(again)
    assert sampled(1, calls.path)["drawn"] == first["drawn"]  # the first result stays
    shown = kachery_command("show", sampled.job(1, calls.path).id).stdout
    assert "not the same" in shown and again.again.result.address.hex() in shown
    as_json = json.loads(kachery_command("show", "--json", sampled.job(1, calls.path).id).stdout)
    assert as_json["other_results"] == [again.again.result.address.hex()]


def test_reproduce_what_has_never_run():
    same = threshold.reproduce(np.ones(3))
    assert same and "same" in str(same)
    assert threshold.job(np.ones(3)).cached
    assert "not the same" not in kachery_command("show", same.record.job_id).stdout


def test_reproduce_what_cannot_be_stored():
    @kachery.task
    def f(x):
        x.append(1)
        return x

    with pytest.raises(kachery.NotReproducible, match="changed its argument"):
        f.reproduce([])


def test_two_results_of_one_job_are_noted(monkeypatch, calls):
    """Two runs that the lease does not keep apart, as on two machines."""
    from kachery_tasks import cache, runs

    job = sampled.job(2, calls.path)
    real_lookup = cache.lookup
    seen = []

    def lookup(store, id, task=None):
        seen.append(id)
        return real_lookup(store, id, task) if len(seen) > 3 else None

    first = sampled(2, calls.path)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "lookup", lookup)
        patch.setattr(runs, "lookup", lookup)
        second = sampled(2, calls.path)
    assert calls.count == 2
    assert second["drawn"] == first["drawn"]
    assert "not the same" in kachery_command("show", job.id).stdout
