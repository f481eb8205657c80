"""A lineage in the formats of others: W3C PROV and Workflow Run RO-Crate."""

import hashlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python, write

import kachery as ka
from kachery_tasks.lineage.model import ARGUMENT, CHILD, MUTABLE, Input, JobNode, Lineage, Link
from kachery_tasks.lineage.prov import prov
from kachery_tasks.lineage.ro_crate import ro_crate
from kachery_tasks.listing import all_records
from kachery_tasks.settings import current

ROOT = Path(__file__).parent.parent
STEPS = """
import numpy as np, kachery as ka
@ka.task
def load(uri): return np.arange(20_000.0)
@ka.task
def scaled(data, by, *, flag=True): return data * by
@ka.task(secret=("password",))
def total(arrays, password): return float(sum(one.sum() for one in arrays))
@ka.task
def same(x): return x
@ka.task
def stored(n): return ka.store_text("text of the lab " * n, label="out.txt")
@ka.task
def large(n): return np.arange(n)
@ka.task
def analysis(uri, n):
    data = load(uri)
    return [total([scaled(data, float(i))], "x") for i in range(n)]
@ka.task(cache_errors=(ValueError,))
def fails(n): raise ValueError(f"no {n}")
"""


@pytest.fixture
def steps(project):
    write(project / "exported_steps.py", STEPS)
    import exported_steps

    return exported_steps


def lineage_of(job):
    try:
        job.result()
    except ValueError:
        pass
    return ka.lineage(job)


def graph(lineage):
    """What the document says, by kind of relation."""
    return json.loads(prov(current().store, lineage))


def related(document, relation, *ends):
    return {
        tuple(one.get(f"prov:{end}") for end in ends) for one in document.get(relation, {}).values()
    }


# PROV


def test_prov_tells_who_used_and_made_what(steps):
    job = steps.scaled.job(steps.load.job("raw"), 2.0)
    document = graph(lineage_of(job))
    load, scaled = (f"job:{one.job_id}" for one in sorted_records())
    data, result = (f"blake3:{one.result.address.hex()}" for one in sorted_records())
    assert set(document["activity"]) == {load, scaled}
    made = related(document, "wasGeneratedBy", "entity", "activity", "role")
    assert {(data, load, "result"), (result, scaled, "result")} == made
    used = related(document, "used", "activity", "entity", "role")
    assert (scaled, data, "data") in used
    assert {role for _, _, role in used} == {"uri", "data", "by", "flag"}
    ((agent, facts),) = document["agent"].items()
    assert agent.startswith("user:") and facts["prov:type"]["$"] == "prov:Person"
    plans = related(document, "wasAssociatedWith", "activity", "plan")
    assert {activity for activity, _ in plans} == {load, scaled}
    assert all(document["entity"][plan]["prov:type"]["$"] == "prov:Plan" for _, plan in plans)
    assert document["activity"][scaled]["prov:label"].startswith(
        "exported_steps:scaled(by=2.0, data="
    )


def sorted_records():
    return sorted(all_records(current().store), key=lambda one: one.started)


def test_prov_is_read_back_as_the_same_graph(steps):
    import prov.model as model

    text = prov(current().store, lineage_of(steps.analysis.job("raw", 2)))
    document = model.ProvDocument.deserialize(content=text, format="json")
    again = document.serialize(format="json")
    assert model.ProvDocument.deserialize(content=again, format="json") == document
    assert len(list(document.get_records(model.ProvActivity))) == 6
    uris = {one.prefix: one.uri for one in document.namespaces}
    assert uris["job"] == "job://" and uris["kachery"] == "urn:kachery:term:"
    assert all("None" not in record.get_provn() for record in document.get_records())


def test_equal_lineages_are_equal_texts(steps):
    job = steps.analysis.job("raw", 2)
    assert prov(current().store, lineage_of(job)) == prov(current().store, lineage_of(job))


def test_prov_tells_what_was_asked_for_while_running(steps):
    lineage = lineage_of(steps.analysis.job("raw", 2))
    document = graph(lineage)
    informed = related(document, "wasInformedBy", "informed", "informant")
    (asked,) = lineage.asked
    assert {one for one, _ in informed} == {f"job:{asked}"} and len(informed) == 5


def test_prov_tells_that_a_container_came_from_what_is_in_it(steps):
    document = graph(
        lineage_of(steps.total.job([steps.scaled.job(steps.load.job("raw"), 2.0)], "x"))
    )
    total, scaled = (
        next(one for one in sorted_records() if name in one.task) for name in ("total", "scaled")
    )
    (container,) = (address.hex() for name, address, _ in total.arguments if name == "arrays")
    derived = related(document, "wasDerivedFrom", "generatedEntity", "usedEntity")
    assert (f"blake3:{container}", f"blake3:{scaled.result.address.hex()}") in derived


def test_prov_tells_nothing_of_secrets(steps):
    text = prov(current().store, lineage_of(steps.total.job([np.arange(3)], "hunter2")))
    assert "hunter2" not in text and "kachery:Secret" in text


def test_a_value_is_made_once_in_prov(steps):
    """PROV knows one generation for each entity, and no entity that is used before it is made."""
    lineage_of(steps.same.job(1234567.25))
    (record,) = sorted_records()
    address = record.result.address.hex()
    lineage = Lineage(
        record.uri,
        True,
        (record.job_id,),
        {record.job_id: JobNode(record.job_id, record, ("ab" * 32,))},
        {address: Input(address, "1234567.25"), "mutable:a b:00": Input("mutable:a b:00", "a b")},
        (
            Link(address, record.job_id, ARGUMENT, "x"),
            Link("mutable:a b:00", record.job_id, MUTABLE, ""),
            Link("cd" * 32, record.job_id, CHILD, ""),
        ),
    )
    document = graph(lineage._replace(jobs={**lineage.jobs, "cd" * 32: JobNode("cd" * 32, None)}))
    job, value, made = f"job:{record.job_id}", f"blake3:{address}", f"made:{record.job_id}"
    generated = related(document, "wasGeneratedBy", "entity", "activity")
    assert (made, job) in generated and (value, job) not in generated
    assert related(document, "alternateOf", "alternate1", "alternate2") == {(made, value)}
    assert (job, "mutable:a%20b%3A00", "mutable") in related(
        document, "used", "activity", "entity", "role"
    )
    assert document["activity"]["job:" + "cd" * 32] == {"prov:label": "a job whose record is gone"}
    signed = related(document, "wasAttributedTo", "entity", "agent")
    assert signed == {(f"record:{record.job_id}", "key:" + "ab" * 32)}


def test_an_exception_that_is_a_result(steps):
    text = prov(current().store, lineage_of(steps.fails.job(3)))
    assert "kachery:Exception" in text


# RO-Crate


@pytest.fixture
def crate(tmp_path):
    def make(lineage, name="crate"):
        folder = tmp_path / name
        ro_crate(current().store, lineage, folder)
        return folder

    return make


def entities(folder):
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    found = {one["@id"]: one for one in graph}
    assert len(found) == len(graph)
    return found


def of_type(found, kind):
    return [one for one in found.values() if kind in as_list(one["@type"])]


def as_list(value):
    return value if isinstance(value, list) else [value]


def ids(value):
    return [one["@id"] for one in as_list(value)]


def test_a_chain_is_a_process_run_crate(steps, crate):
    uri = ka.store_text("from the microscope", label="raw.txt")
    folder = crate(lineage_of(steps.scaled.job(steps.load.job(uri), 2.0)))
    found = entities(folder)
    assert ids(found["./"]["conformsTo"]) == ["https://w3id.org/ro/wfrun/process/0.5"]
    load, scaled = (found[one.uri] for one in sorted_records())
    assert scaled["@type"] == "CreateAction"
    assert scaled["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert ids(load["result"])[0] in ids(scaled["object"])
    assert found[ids(scaled["instrument"])[0]]["name"] == "exported_steps:scaled"
    assert found[ids(scaled["agent"])[0]]["@type"] == "Person"
    by = next(one for one in of_type(found, "PropertyValue") if one["name"] == "by")
    assert by["value"] == 2.0 and found[by["exampleOfWork"]["@id"]]["additionalType"] == "Float"
    assert by["@id"] in ids(scaled["object"])
    raw = next(one for one in of_type(found, "File") if one["name"] == "raw.txt")
    assert raw["@id"] in ids(load["object"])
    assert (folder / raw["@id"]).read_text() == "from the microscope"
    for file in of_type(found, "File"):
        data = (folder / file["@id"]).read_bytes()
        assert file["contentSize"] == str(len(data))
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert not of_type(found, "ControlAction")


def test_a_task_that_asks_for_others_is_a_workflow(steps, crate):
    folder = crate(lineage_of(steps.analysis.job("raw", 2)))
    found = entities(folder)
    profiles = ids(found["./"]["conformsTo"])
    assert profiles[:3] == [
        f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow", "provenance")
    ]
    main = found[found["./"]["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"} == set(main["@type"])
    source = (folder / main["@id"]).read_text()
    assert "def analysis(uri, n):" in source and "total([scaled(data" in source
    assert {found[one]["name"] for one in ids(main["step"])} == {
        f"exported_steps:{name}" for name in ("load", "scaled", "total")
    }
    controls = of_type(found, "ControlAction")
    assert len(controls) == 5
    for control in controls:
        step, action = (found[control[name]["@id"]] for name in ("instrument", "object"))
        assert step["workExample"] == action["instrument"]
    (organized,) = of_type(found, "OrganizeAction")
    assert set(ids(organized["object"])) == {one["@id"] for one in controls}
    assert found[organized["result"]["@id"]]["instrument"] == {"@id": main["@id"]}
    assert found[organized["instrument"]["@id"]]["name"] == "kachery"


def test_large_results_are_described_and_not_in_it(steps, crate):
    folder = crate(lineage_of(steps.large.job(200_000)))
    found = entities(folder)
    (record,) = sorted_records()
    value = found[f"blake3://{record.result.address.hex()}"]
    assert value["contentSize"] == str(record.result.size)
    assert value["identifier"] == value["@id"] and "not in this crate" in value["description"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 100_000


def test_inputs_whose_bytes_are_not_kept_are_described(steps, crate):
    found = entities(crate(lineage_of(steps.scaled.job(np.arange(3.0), 2.0))))
    (action,) = of_type(found, "CreateAction")
    raw = next(found[one] for one in ids(action["object"]) if one.startswith("blake3://"))
    assert raw["@type"] == "CreativeWork" and "bytes were not kept" in raw["description"]


def test_files_that_a_job_stored_are_results(steps, crate):
    folder = crate(lineage_of(steps.stored.job(2)))
    found = entities(folder)
    (action,) = of_type(found, "CreateAction")
    files = [found[one] for one in ids(action["result"])]
    assert any((folder / one["@id"]).read_bytes() == b"text of the lab " * 2 for one in files)


def test_secrets_and_exceptions_in_a_crate(steps, crate):
    folder = crate(lineage_of(steps.total.job([np.arange(3)], "hunter2")), "one")
    assert "hunter2" not in (folder / "ro-crate-metadata.json").read_text()
    found = entities(crate(lineage_of(steps.fails.job(3)), "two"))
    (action,) = of_type(found, "CreateAction")
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "ValueError"


def test_equal_lineages_are_equal_folders_and_none_is_half(steps, crate, tmp_path, monkeypatch):
    lineage = lineage_of(steps.analysis.job("raw", 2))
    one, other = crate(lineage, "one"), crate(lineage, "other")
    assert contents(one) == contents(other)
    with pytest.raises(ka.KacheryError, match="not empty"):
        crate(lineage, "one")
    import rocrate.rocrate

    def full(self, folder):
        os.makedirs(folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rocrate.rocrate.ROCrate, "write", full)
    with pytest.raises(OSError, match="No space"):
        crate(lineage, "third")
    assert not [path for path in os.listdir(tmp_path) if "third" in path]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_library_reads_it(steps, crate):
    from rocrate.rocrate import ROCrate

    folder = crate(lineage_of(steps.analysis.job("raw", 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = ROCrate(folder)
    assert read.mainEntity["name"] == "exported_steps:analysis"
    assert len(read.get_by_type("CreateAction")) == 6


def test_without_the_libraries_a_sentence_says_what_to_install(steps, tmp_path):
    run_python(
        """
        import sys
        sys.modules["prov"] = sys.modules["prov.model"] = sys.modules["rocrate"] = None
        import kachery as ka
        @ka.task(version="1", name="f")
        def f(): return 1
        f()
        found = ka.lineage(f.job())
        for export in (found.to_prov, lambda: found.save("crate")):
            try:
                export()
            except ka.Unsupported as error:
                assert "pip install 'kachery[provenance]'" in str(error), error
            else:
                raise AssertionError("it did not say so")
        """,
        cwd=tmp_path,
    )


# The validator of others


def validator():
    """A Python that has rocrate-validator, or None. It wants older libraries than this suite has."""
    named = os.environ.get("KACHERY_ROCRATE_PYTHON")
    places = [named, ROOT / ".venv-rocrate/bin/python", sys.executable]
    for python in filter(None, places):
        if Path(python).exists() or shutil.which(python):
            found = subprocess.run([python, "-c", "import rocrate_validator"], capture_output=True)
            if found.returncode == 0:
                return str(python)
    return None


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The JSON-LD contexts that a crate names, as far as they are needed."""
    library = importlib.resources.files("rocrate") / "data/ro-crate.jsonld"
    terms = json.loads(library.read_text())["@context"]
    bioschemas, own = "https://bioschemas.org/", "https://w3id.org/ro/terms/workflow-run#"
    for name in ("ComputationalWorkflow", "FormalParameter"):  # as in 1.1
        terms[name] = f"{bioschemas}{name}"
    for name in ("input", "output"):
        terms[name] = f"{bioschemas}ComputationalWorkflow#{name}"
    names = ("ParameterConnection", "connection", "sha256", "environment", "resourceUsage")
    path = tmp_path_factory.mktemp("contexts") / "contexts.json"
    path.write_text(
        json.dumps(
            {
                "https://w3id.org/ro/crate/1.1/context": {"@context": terms},
                f"{own[:-1]}/context": {"@context": {name: own + name for name in names}},
            }
        )
    )
    return path


# What the profiles recommend and nobody can know: where software is told of, who publishes, for whom
# people work; that a workflow follows a profile which asks for more; and that an id is absolute, which
# the validator asks of the types themselves.
UNKNOWN = ("_3.2 ", "_22.3 ", "_30.2 ", "_30.3 ", "workflow-ro-crate-1.0_8.1 ", "_5.1 ")


@pytest.mark.parametrize(
    ("profile", "which"),
    [
        ("process-run-crate", "chain"),
        ("provenance-run-crate", "nested"),
        ("process-run-crate", "odd"),
    ],
)
def test_the_validator_finds_nothing(steps, crate, contexts, profile, which):
    python = validator()
    if python is None:
        pytest.skip(
            "NO OTHER PROGRAM CHECKED OUR RO-CRATES: make a .venv-rocrate with roc-validator, or name a"
            " Python that has it in KACHERY_ROCRATE_PYTHON"
        )
    uri = ka.store_text("from the microscope", label="raw.txt")
    jobs = {
        "chain": lambda: steps.scaled.job(steps.load.job(uri), 2.0),
        "nested": lambda: steps.analysis.job(uri, 2),
        "odd": lambda: steps.fails.job(3),
    }
    folder = crate(lineage_of(jobs[which]()))
    assert issues(python, folder, profile, contexts) == []
    metadata = folder / "ro-crate-metadata.json"
    metadata.write_text(metadata.read_text().replace('"instrument"', '"description"'))
    assert any("REQUIRED" in one for one in issues(python, folder, profile, contexts))


def issues(python, folder, profile, contexts):
    script = Path(__file__).parent / "rocrate_check.py"
    arguments = [python, script, folder, profile, "RECOMMENDED", contexts]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.endswith("checked\n"), done.stdout + done.stderr
    lines = done.stdout.splitlines()[:-1]
    return [one for one in lines if not any(known in one for known in UNKNOWN)]
