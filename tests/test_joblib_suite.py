"""joblib's own tests of its Memory, run against kachery's: which do not pass, and why.

The tests come with joblib; `joblib_stand_in.py` has them meet kachery's Memory.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# They look at joblib's own folders, attributes, constructors or wording.
INTERNALS = {
    "test_parallel_call_cached_function_defined_in_jupyter": "lists joblib's folders",
    "test_memorized_result_forwards_mmap_mode": "makes a MemorizedResult of a folder and a call id",
    "test_partial_decoration": "asks a memorized function for _verbose",
    "test_func_dir": "looks for func_code.py in the folder of the function",
    "test_persistence": "looks for the folder of the arguments",
    "test_call_and_shelve_lazily_load_stored_result": "looks at the time of access of output.pkl",
    "test__get_items": "compares folders of results, and their sizes",
    "test__get_items_to_delete": "asks the store backend what it would delete",
    "test_memory_reduce_size_bytes_limit": "knows how many bytes joblib needs for a result",
    "test_memory_reduce_size_age_limit": "knows the words of the ValueError",
    "test_memory_clear": "expects an empty folder",
    "test_memory_recomputes_after_an_error_while_loading_results": "catches its own log",
    "test_memory_objects_repr": "asks a MemorizedResult for func_id",
    "test_memorized_result_pickle": "asks a MemorizedResult for its store_backend",
    "TestAutoGitignore::test_memory_creates_gitignore": "expects joblib's name in .gitignore",
}

# They use what kachery.Memory refuses, with Unsupported.
REFUSED = {
    "test_memory_integration": "compress=",
    "test_memory_integration_async": "compress=",
    "test_memory_pickle_dump_load": "compress=, backend_options=",
    "test_memory_default_store_backend": "backend=, where joblib raises TypeError",
}

# docs/howto/from-joblib.md tells of them.
DIFFERENCES = {
    "test_memory_name_collision": "functions of one name are told apart, without a warning",
    "test_memory_warning_lambda_collisions": "functions of one name are told apart",
    "test_memory_warning_collision_detection": "functions of one name are told apart",
    "test_memory_in_memory_function_code_change": "other code is another job, without a warning",
    "test_memory_numpy_check_mmap_mode": "the first call returns what the function returned",
    "test_memory_numpy_check_mmap_mode_async": "the first call returns what the function returned",
    "test_memory_ignore_decorated": "ignore= names the parameters of the wrapper",
    "test_memory_func_with_kwonly_args": "wrong arguments are a TypeError",
    "TestCacheValidationCallback::test_invalid_cache_validation_callback": "it is a TypeError",
    "test_info_log": "verbose= has no effect",
}

# They test other parts of joblib, or its Memory in a process of its own.
NOT_OF_MEMORY = (
    "backends_key",
    "backends_object",
    "unknown_location_type",
    "store_backend_with_pathlib_path",
    "instanciate_incomplete",
    "dummy_store",
    "filesystem_store_backend_repr",
    "persists_across_sessions",
)

EXPECTED = {**INTERNALS, **REFUSED, **DIFFERENCES}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The tests, with their outcome and what was said of it."""
    joblib = pytest.importorskip("joblib")
    folder = tmp_path_factory.mktemp("joblib")
    tests = Path(joblib.__file__).parent / "test"
    if not (tests / "test_memory.py").exists():
        pytest.skip(f"joblib {joblib.__version__} is installed without its tests")
    told = folder / "outcomes.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}"),
            *("-p", "joblib_stand_in", "-p", "no:cacheprovider", "-p", "no:warnings"),
            *(f"--basetemp={folder / 'tmp'}", "-k", f"not ({' or '.join(NOT_OF_MEMORY)})"),
            *map(str, (tests / "test_memory.py", tests / "test_memory_async.py")),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
            ),
            "KACHERY_DIR": str(folder / "store"),
            "KACHERY_USER_DIR": str(folder / "user"),
            "OUTCOMES": str(told),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert told.exists(), run.stdout
    return json.loads(told.read_text())


def names_of(test):
    return test.partition("[")[0]


def test_what_joblib_promises_of_its_memory_holds(outcomes):
    failed = {
        test: said
        for test, (outcome, said) in outcomes.items()
        if outcome == "failed" and names_of(test) not in EXPECTED
    }
    assert not failed
    assert sum(outcome == "passed" for outcome, _ in outcomes.values()) >= 32


def test_what_is_listed_as_different_is_different(outcomes):
    passed = [test for test, (outcome, _) in outcomes.items() if outcome == "passed"]
    assert not EXPECTED.keys() & set(map(names_of, passed))
    assert not EXPECTED.keys() - set(map(names_of, outcomes)), "joblib has no such tests any more"


def test_what_is_refused_is_refused_and_nothing_else(outcomes):
    for test, (_, said) in outcomes.items():
        assert ("errors.Unsupported" in said) is (names_of(test) in REFUSED), test
