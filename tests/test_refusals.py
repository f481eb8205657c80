"""What is asked for wrongly is refused, with the error and the words that the documentation promises."""

import numpy as np
import pytest

import kachery
from kachery_store.errors import BadURI, ConfigError
from kachery_store.remote.s3 import S3Backend

NOWHERE = "sha1://" + "0" * 40


@kachery.task
def step(x):
    return x


REFUSED = {
    "a URI that is no text": (lambda: kachery.load_text(3), BadURI, "a URI is text like sha1"),
    "a URI of another kind": (lambda: kachery.load_text("ftp://x"), BadURI, "those look like"),
    "a digest of another length": (
        lambda: kachery.load_text("sha1://abc"),
        BadURI,
        "no sha1 hash: that is 40 digits",
    ),
    "a label that is no text": (
        lambda: kachery.store_text("x", label=3),
        BadURI,
        "a label is text, not int",
    ),
    "a label of 100,000 characters": (
        lambda: kachery.store_text("x", label="a" * 100_000),
        BadURI,
        "has 100000 characters; at most",
    ),
    "a label that rings": (
        lambda: kachery.store_text("x", label="a\ab"),
        BadURI,
        "has control characters; leave them out",
    ),
    "half an address at GitHub": (
        lambda: kachery.load_text("gh://user/repo"),
        BadURI,
        "gh://user/repo/branch/path",
    ),
    "an endless URL": (
        lambda: kachery.load_text("https://a.org/" + "x" * 100_000),
        BadURI,
        "characters; at most",
    ),
    "a bucket without a name": (lambda: S3Backend("s3:///x", {}), BadURI, "names no bucket"),
    "a long prefix": (
        lambda: S3Backend("s3://bucket/" + "x" * 1000, {}),
        BadURI,
        "a prefix in a bucket has at most 800 bytes",
    ),
    "a mutable whose name is no text": (
        lambda: kachery.set_mutable(b"\0", b"x"),
        kachery.BadMutable,
        "of a mutable is a JSON value",
    ),
    "a mutable with a key that is no text": (
        lambda: kachery.set_mutable("a", {1: 2}),
        kachery.BadMutable,
        "an object's key is text, not 1",
    ),
    "a local mutable whose name is no text": (
        lambda: kachery.set_mutable_local(3, "x"),
        kachery.BadMutable,
        "of a mutable is text, not int",
    ),
    "a local mutable with a long name": (
        lambda: kachery.set_mutable_local("a/" * 5000 + "a", "x"),
        kachery.BadMutable,
        "shorten it",
    ),
    "a local mutable that rings": (
        lambda: kachery.set_mutable_local("a\ab", "x"),
        kachery.BadMutable,
        "has control characters; leave them out",
    ),
    "a storage backend that stores nothing": (
        lambda: kachery.set_custom_storage_backend(object()),
        TypeError,
        "has a method store_file",
    ),
    "a feed without a name": (
        lambda: kachery.create_feed(""),
        kachery.BadFeed,
        "cannot name a feed",
    ),
    "a feed whose name no file has": (
        lambda: kachery.create_feed("\ud800"),
        kachery.BadFeed,
        "it is no UTF-8",
    ),
    "a feed that is none": (
        lambda: kachery.load_feed("feed://abc"),
        kachery.BadFeed,
        "64 hex digits",
    ),
    "a position before the first": (
        lambda: kachery.create_feed("f").load_subfeed("s").set_position(-1),
        ValueError,
        "a position is a number from 0 on, not -1",
    ),
    "an ignored parameter that is none": (
        lambda: kachery.task(ignore=("speed",))(lambda x: x),
        ValueError,
        "ignore= names 'speed', but the parameters of .* are x",
    ),
    "a library that is not installed": (
        lambda: kachery.task(depends=("no-such-library",))(step.__wrapped__).job(1),
        kachery.CannotFingerprint,
        "'?no-such-library'?, which is not an installed distribution",
    ),
    "half a retry": (
        lambda: kachery.task(retries=0.5)(lambda x: x),
        ValueError,
        "retries= is how often to try again: 0, 1, 2..., not 0.5",
    ),
    "half a priority": (
        lambda: kachery.task(priority=0.5)(lambda x: x),
        TypeError,
        "priority= is a whole number, not 0.5",
    ),
    "one job where many are gathered": (
        lambda: kachery.gather(step.job(1)),
        TypeError,
        r"a list of jobs: \[job\]; or ask for job.result\(\)",
    ),
    "a codec that is none": (
        lambda: kachery.store_zarr(np.arange(4), codecs=["zstd"]),
        kachery.Unsupported,
        "'zstd' is no codec of Zarr 3",
    ),
    "URLs of chunks without a zone": (
        lambda: kachery.zarr_references(kachery.store_zarr(np.arange(4)), "f.json", in_zone=True),
        kachery.Unsupported,
        "no zone is in force whose URLs could be named",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what):
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zones = 3", "zones are tables, written"),
        ("[zones]\nlab = 3", "zones.lab is a table, written"),
        ("[zones.lab]\nread_only = true", "zones.lab has no url, such as s3://"),
        ("[zones.lab]\nurl = 3", "zones.lab.url is text, not int"),
        ('[zones.lab]\nurl = "/lab"\nread_only = "no"', "is true or false, not 'no'"),
        ('[zones.lab]\nurl = "/lab"\nexpires = "soon"', "zones.lab.expires: 'soon' is not a span"),
        ('[zones.lab]\nurl = "/lab"\nsecret = "x"', "zones.lab.secret"),
        ('[zones.other]\nurl = "/lab"', r"no zone 'lab' is configured \(known: other\)"),
    ],
)
def test_a_configuration_that_says_what_it_cannot(text, words, store_dir):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text(text)
    with pytest.raises(ConfigError, match=words), kachery.using(zone="lab"):
        kachery.load_text(NOWHERE)


def test_a_store_that_is_no_table(store_dir):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text("store = 3")
    with pytest.raises(ConfigError, match=r"`store` is a table, written \[store\]; it is 3"):
        kachery.store_text("x")
