"""What users of kachery 2 rely on: URIs, paths and commands come out exactly."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

import kachery as ka

TEST_CONTENT = "sha1://b971c6ef19b1d70ae8f0feb989b106c319b36230?label=test_content.txt"


def command(name, *args):
    return subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), name), *args],
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def test_content(tmp_path):
    path = tmp_path / "test_content.txt"
    path.write_text("test-content\n")
    return path


def test_published_uris(test_content):
    assert ka.store_file(str(test_content), label="test_content.txt") == TEST_CONTENT
    assert (
        ka.store_text("example text", label="example.txt")
        == "sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=example.txt"
    )
    assert (
        ka.store_json({"example": "dict"}, label="example.json")
        == "sha1://d0d9555e376ff13a08c6d56072808e27ca32d54a?label=example.json"
    )
    array = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int16)
    uri = ka.store_npy(array, label="example.npy")
    assert uri == "sha1://bb55205a2482c6db2ace544fc7d8397551110701?label=example.npy"
    assert ka.store_text("Hello, world!") == "sha1://943a702d06f34599aee1f8da8ef9f7296031d699"
    assert ka.load_text("sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688") == "example text"
    assert ka.load_json("sha1://d0d9555e376ff13a08c6d56072808e27ca32d54a") == {"example": "dict"}
    loaded = ka.load_npy(uri)
    assert loaded.dtype == np.int16 and np.array_equal(loaded, array)


def test_published_path_and_read_only_file(test_content, store_dir):
    ka.store_file(test_content)
    path = store_dir / "sha1/b9/71/c6/b971c6ef19b1d70ae8f0feb989b106c319b36230"
    assert ka.load_file(TEST_CONTENT) == str(path)
    assert path.read_bytes() == b"test-content\n"
    assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert ka.get_kachery_dir() == str(store_dir)


def test_a_file_that_kachery_2_stored_is_found(store_dir):
    path = store_dir / "sha1/b9/71/c6/b971c6ef19b1d70ae8f0feb989b106c319b36230"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"test-content\n")
    assert ka.load_bytes(TEST_CONTENT, 5, 12) == b"content"


def test_other_form_of_uri():
    uri = ka.store_text("Hello, world!", label="a b.txt", uri_type=2)
    assert uri == "kachery:default:sha1:943a702d06f34599aee1f8da8ef9f7296031d699:a%20b.txt"
    assert ka.load_text(uri) == "Hello, world!"
    assert ka.load_text("sha1://943a702d06f34599aee1f8da8ef9f7296031d699/a.txt") == "Hello, world!"


def test_commands(test_content, store_dir):
    stored = command("kachery-store", str(test_content))
    assert stored.stdout.decode() == TEST_CONTENT + "\n"
    loaded = command("kachery-load", TEST_CONTENT)
    path = store_dir / "sha1/b9/71/c6/b971c6ef19b1d70ae8f0feb989b106c319b36230"
    assert loaded.stdout.decode() == f"{path}\n"
    assert command("kachery-cat", TEST_CONTENT).stdout == b"test-content\n"
    labelled = command("kachery-store", str(test_content), "--label", "x y")
    assert labelled.stdout.decode().endswith("?label=x%20y\n")


def test_load_with_dest(test_content, tmp_path):
    ka.store_file(test_content)
    assert command("kachery-load", TEST_CONTENT, "--dest", str(tmp_path / "copy")).returncode == 0
    assert (tmp_path / "copy").read_bytes() == b"test-content\n"
    (tmp_path / "copy").write_bytes(b"mine")  # a copy is the user's own


@pytest.mark.parametrize(
    "uri",
    ["", "sha1:/x", "sha1://", "sha1://XYZ", "md5://00", "kachery:z", "sha1://" + "a" * 39, 5, None]
    + ["sha1://../../etc/passwd", "sha1://" + "A" * 40],
)
def test_malformed_uri(uri):
    with pytest.raises(ka.BadURI) as caught:
        ka.load_text(uri)
    assert "sha1" in str(caught.value)


def test_a_uri_that_is_nowhere():
    uri = "sha1://" + "0" * 40
    assert ka.load_text(uri) is None
    assert ka.load_file(uri) is None
    failed = command("kachery-cat", uri)
    assert failed.returncode == 1 and failed.stdout == b""
    assert b"KACHERY_DIR" in failed.stderr and b"Traceback" not in failed.stderr
    failed = command("kachery-load", "nonsense")
    assert failed.returncode == 1 and b"Traceback" not in failed.stderr


def test_json_and_npy_refuse_what_kachery_2_refuses():
    with pytest.raises(ValueError):
        ka.store_json({"x": float("nan")})
    with pytest.raises(ValueError):
        ka.store_npy(np.array([object()]))


def test_a_damaged_file_is_not_loaded(test_content, store_dir):
    ka.store_file(test_content)
    path = store_dir / "sha1/b9/71/c6/b971c6ef19b1d70ae8f0feb989b106c319b36230"
    path.chmod(0o644)
    path.write_bytes(b"test-Content\n")
    with pytest.warns(ka.DamagedWarning), pytest.raises(ka.DigestMismatch, match="quarantine"):
        ka.load_text(TEST_CONTENT)
    assert ka.load_text(TEST_CONTENT) is None
    assert len(list((store_dir / "quarantine").iterdir())) == 1
    ka.store_file(test_content)
    assert ka.load_text(TEST_CONTENT) == "test-content\n"


def test_storing_again_mends_a_damaged_file(test_content, store_dir):
    ka.store_file(test_content)
    path = store_dir / "sha1/b9/71/c6/b971c6ef19b1d70ae8f0feb989b106c319b36230"
    path.chmod(0o644)
    path.write_bytes(b"test-Content\n")
    with pytest.warns(ka.DamagedWarning):
        ka.store_file(test_content)  # what is acknowledged must be there
    assert ka.load_text(TEST_CONTENT) == "test-content\n"


def test_everything_that_kachery_2_has_is_here():
    names = (
        "load_file load_file_info cat_file store_file store_file_local load_bytes get_kachery_dir"
    )
    names += " use_sandbox set_mutable_local get_mutable_local delete_mutable_local sha1_of_dict"
    names += " delete_mutable_folder_local set_custom_storage_backend link_file store_bytes"
    for kind in ("text", "json", "npy", "pkl"):
        names += f" store_{kind} load_{kind}"
    for kind in ("text", "json", "npy"):
        names += f" store_{kind}_local"
    assert [name for name in names.split() if not callable(getattr(ka, name))] == []
    assert set(names.split()) <= set(ka.__all__)


def test_local_stores():
    assert ka.store_text_local("Hello, world!", "a.txt") == (
        "sha1://943a702d06f34599aee1f8da8ef9f7296031d699?label=a.txt"
    )
    assert ka.store_json_local({"example": "dict"}) == (
        "sha1://d0d9555e376ff13a08c6d56072808e27ca32d54a"
    )
    array = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int16)
    assert ka.store_npy_local(array) == "sha1://bb55205a2482c6db2ace544fc7d8397551110701"
    uri = ka.store_text("Hello, world!", local=True, uri_type=2)
    assert uri == "kachery::sha1:943a702d06f34599aee1f8da8ef9f7296031d699"
    assert ka.load_text(uri) == "Hello, world!"


def test_there_are_two_forms():
    assert ka.store_text("x", uri_type=2).startswith("kachery:default:sha1:")
    with pytest.raises(ValueError, match="uri_type"):
        ka.store_text("x", uri_type=3)


def test_json_with_keys_that_are_no_text():
    """kachery 2 sorts such keys as text; the published digest depends on it."""
    uri = ka.store_json({10: 1, 9: {2: 3, 11: 4}, None: 0})
    assert ka.load_text(uri) == '{"10":1,"9":{"11":4,"2":3},"null":0}'
    with pytest.raises(ValueError, match="same text"):
        ka.store_json({1: 1, "1": 2})
    assert ka.sha1_of_dict({"a": 1.0}) == ka.sha1_of_dict({"a": 1}) != ka.sha1_of_dict({"a": 1.5})
