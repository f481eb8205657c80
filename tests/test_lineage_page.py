"""The page and the pictures of a lineage, and how jobs show themselves. The page is looked at in a real
browser: Debian's chromium, driven by Playwright. With KACHERY_TEST_BROWSER=1 it fails where one is lacking.
"""

import hashlib
import html.parser
import os
import random
import re
import shutil
import threading
import xml.etree.ElementTree as ET
import zlib
from itertools import pairwise

import numpy as np
import pytest
from conftest import FULL, run_python

import kachery
from kachery_tasks.drawing import layout as layout_module
from kachery_tasks.drawing import notebook, ordering
from kachery_tasks.drawing.figure import FINISHED, JOB, Box, Figure
from kachery_tasks.drawing.folding import folded
from kachery_tasks.drawing.layout import Size, Spacing, laid_out
from kachery_tasks.lineage.model import ARGUMENT, CHILD, Input, JobNode, Lineage, Link
from kachery_tasks.lineage.page import page
from kachery_tasks.lineage.picture import picture
from kachery_tasks.record import Record, Result

EVIL = '</script><script>window.evil=1</script><img src=x onerror=window.evil=1>"\' x onload="window.evil=1" \u202e\ud800&lt;<!--'

X = "\N{MULTIPLICATION SIGN}"


def hex_of(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Builder:
    """A lineage made by hand, in the order of its jobs."""

    def __init__(self, about="average.npz", up=True):
        self.lineage = Lineage(about, up, (), {}, {}, ())
        self.links = {}
        self.last = None

    def value(self, summary, name=None):
        name = name or hex_of(summary)
        self.lineage.inputs[name] = Input(name, summary)
        return name

    def file(self, label):
        return self.value("file", f"sha1://{hex_of(label)[:40]}?label={label}")

    def job(self, task, status=FINISHED, gone=False, role=ARGUMENT, signers=(), **arguments):
        job_id = hex_of(task, status, sorted(arguments.items(), key=str))
        rows = []
        for name, given in arguments.items():
            sources = given if isinstance(given, list) else [given]
            for source in sources:
                self.links[Link(source, job_id, role, name)] = None
            known = self.lineage.inputs.get(sources[0])
            summary = known.summary if known else f"list of {len(sources)}"
            rows.append((name, bytes.fromhex(hex_of(given)), summary))
        number = len(self.lineage.jobs)
        record = Record(
            job_id, "task", task, None, hex_of("code", task), rows,
            Result(bytes.fromhex(hex_of(job_id)), 160_128, "numpy.ndarray", [], None, []),
            status, 1.79e9 + number, 3.25 + number, "node07", "ada", 4711, "3.11.2", "3.0.0", [],
            cpu_seconds=2.5, peak_memory=312_000_000, attempt=2, worker="tcp://10.1.4.7:40112",
            environment=bytes.fromhex(hex_of("environment")),
        )  # fmt: skip
        self.lineage.jobs[job_id] = JobNode(job_id, None if gone else record, signers)
        self.last = job_id
        return job_id

    def done(self, *asked):
        return self.lineage._replace(asked=asked or (self.last,), links=tuple(self.links))


def five():
    build = Builder("comparison.npy")
    load = build.job("lab.io:load", path=build.file("subject01.dat"))
    clean = build.job("lab.filters:denoise", recording=load, cutoff=build.value("300.0"))
    one = build.job("lab.spectra:spectrum", recording=clean, window=build.value("1024"))
    other = build.job("lab.spectra:spectrum", recording=load, window=build.value("1024"))
    build.job("lab.figures:compare", left=one, right=other, signers=(hex_of("key"),))
    return build.done()


def two_thousand():
    """480 runs through four tasks, and a tree that brings them together."""
    build = Builder()
    settings = build.value("dict of 12", f"mutable:calibration:{hex_of('c')}")
    level = []
    for run in range(480):
        load = build.job(
            "lab.io:load", path=build.file(f"run{run:03}.dat"), run=build.value(str(run))
        )
        clean = build.job("lab.filters:denoise", recording=load, cutoff=build.value(f"{run / 2}"))
        spectrum = build.job("lab.spectra:spectrum", recording=clean, settings=settings)
        level.append(build.job("lab.models:fit", spectrum=spectrum))
    while len(level) > 1:
        level = [
            build.job("lab.models:merge", parts=level[at : at + 4])
            for at in range(0, len(level), 4)
        ]
    build.job("lab.figures:average", model=level[0])
    return build.done()


def hostile():
    build = Builder(EVIL)
    file, mutable = build.value(EVIL, "sha1://" + EVIL), build.value(EVIL, f"mutable:{EVIL}:0")
    first = build.job(EVIL, status=EVIL, **{EVIL: file})
    second = build.job("</title><svg onload=window.evil=1>", x=mutable, signers=(EVIL,))
    third = build.job("lab:x" + "W" * 300, a=first, b=second, c=build.value("'" + EVIL))
    build.job("javascript:window.evil=1", d=third, e=file, role=CHILD)
    return build.done()


def random_jobs(count):
    """Jobs of forty tasks that take what they find."""
    build, chance, made = Builder(), random.Random(5), []
    for number in range(count):
        taken = {
            f"x{i}": made[chance.randrange(max(0, number - 60), number)]
            for i in range(min(number, 2))
        }
        made.append(
            build.job(f"lab:task{chance.randrange(40)}", n=build.value(str(number)), **taken)
        )
    return build.done()


def chain(length, tasks):
    build = Builder()
    state = build.file("start.dat")
    for step in range(length):
        state = build.job(f"lab:step{step % tasks}", state=state, n=build.value(str(step)))
    return build.done()


# Layout and folding


def random_links(count, seed):
    chance = random.Random(seed)
    return [
        (chance.randrange(max(0, target - 30), target), target)
        for target in range(1, count)
        for _ in range(chance.randrange(3))
    ]


@pytest.mark.parametrize("count", [0, 1, 5, 40, 300])
def test_no_box_lies_on_another_and_sources_stand_above(count):
    links = random_links(count, count)
    sizes = [Size(190, 50) if number % 3 else Size(170, 44) for number in range(count)]
    layout = laid_out(sizes, links, Spacing(24, 20, 46))
    places = layout.places
    for source, target in layout.segments:
        assert places[source].layer < places[target].layer and places[source].y < places[target].y
    by_layer = {}
    for place, size in zip(places, sizes, strict=False):
        by_layer.setdefault(place.layer, []).append(
            (place.x - size.width / 2, place.x + size.width / 2)
        )
    for spans in by_layer.values():
        spans.sort()
        assert all(right < left for (_, right), (left, _) in pairwise(spans))
        assert spans[0][0] >= -0.1 and spans[-1][1] <= layout.width + 0.1
    reached = set()
    starts = {}
    for source, target in layout.segments:
        starts.setdefault(target, []).append(source)
    for target in range(count):
        for source in starts.get(target, []):
            while source >= count:
                (source,) = starts[source]
            reached.add((source, target))
    assert reached == set(links)


def test_equal_figures_get_equal_places_and_a_chain_is_straight():
    links = random_links(120, 7)
    sizes = [Size(190, 50)] * 120
    spacing = Spacing(24, 20, 46)
    assert laid_out(sizes, links, spacing) == laid_out(sizes, list(links), spacing)
    straight = laid_out(sizes, [(at, at + 1) for at in range(119)], spacing)
    assert len({place.x for place in straight.places}) == 1
    crossed = [(0, 3), (1, 2)]  # need not cross
    places = laid_out([Size(190, 50)] * 4, crossed, spacing).places
    assert (places[0].x < places[1].x) == (places[3].x < places[2].x)


def test_sweeps_leave_fewer_crossings():
    crossings = []
    for seed in range(10):
        links = random_links(60, seed)
        above, below = layout_module._neighbours(60, links)
        layer_of = layout_module._layers(above, below)
        segments = layout_module._bent(layer_of, links)
        above, below = layout_module._neighbours(len(layer_of), segments)
        layers = [[] for _ in range(max(layer_of) + 1)]
        for item, layer in enumerate(layer_of):
            layers[layer].append(item)
        best = ordering.ordered(layers, above, below)
        assert [sorted(layer) for layer in best] == layers
        crossings.append(
            [
                ordering._crossings(some, below)
                for some in (best, ordering._first(layers, above, below))
            ]
        )
    after, before = map(sum, zip(*crossings, strict=True))
    assert after < before * 0.8


def boxes_of(kinds, links):
    boxes = [
        Box(str(at), JOB, kind, kind, "", FINISHED, at == len(kinds) - 1, 1.0, (str(at),))
        for at, kind in enumerate(kinds)
    ]
    return Figure(tuple(boxes), tuple((str(a), str(b)) for a, b in links))


def shown(figure):
    return [(box.title, len(box.members)) for box in figure.boxes]


def test_what_is_of_one_task_and_stands_alike_shares_a_box():
    load, clean = range(10), range(10, 20)
    links = [*zip(load, clean, strict=True), *((at, 20) for at in clean)]
    figure = boxes_of(["load"] * 10 + ["clean"] * 10 + ["end"], links)
    assert len(folded(figure, 21, 21).boxes) == 21
    small = folded(figure, 20, 20)
    assert shown(small) == [(f"10 {X} load", 10), (f"10 {X} clean", 10), ("end", 1)]
    assert len(small.links) == 2


def test_chains_and_trees_of_one_task_share_a_box_and_what_was_asked_for_stands_alone():
    figure = boxes_of(["step"] * 50, [(at, at + 1) for at in range(49)])
    assert shown(folded(figure, 5, 5)) == [(f"49 {X} step", 49), ("step", 1)]
    tree = boxes_of(
        ["merge"] * 7 + ["end"], [(0, 4), (1, 4), (2, 5), (3, 5), (4, 6), (5, 6), (6, 7)]
    )
    assert shown(folded(tree, 5, 5)) == [(f"7 {X} merge", 7), ("end", 1)]


def test_folding_makes_no_circle():
    for seed in range(30):
        links = random_links(60, seed)
        figure = boxes_of(
            [f"task{random.Random(seed + at).randrange(4)}" for at in range(60)], links
        )
        for worst in (1, 1000):
            small = folded(figure, 1, worst)
            folded(small, 1000, 1000)  # CycleError if there is one
            members = [name for box in small.boxes for name in box.members]
            assert sorted(members) == sorted(box.name for box in figure.boxes)


def test_small_pictures_have_a_dozen_boxes_at_most():
    for lineage in (five(), two_thousand(), random_jobs(300), chain(300, 300), hostile()):
        tree = ET.fromstring(picture(lineage))
        boxes = tree.findall("{http://www.w3.org/2000/svg}g/{http://www.w3.org/2000/svg}rect")
        assert 0 < len(boxes) <= 12
        assert not [node for node in tree.iter() if node.tag.endswith("script")]
    assert f"480 {X} denoise" in picture(two_thousand())
    assert re.search(r"\d+ more", picture(chain(300, 300)))
    assert ET.fromstring(picture(Lineage("nothing", True, (), {}, {}, ()))) is not None


# The page, without a browser


class Reader(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]


def test_no_word_of_a_record_becomes_markup():
    read, plain = Reader(page(hostile())), Reader(page(five()))
    assert set(read.tags) <= set(plain.tags)
    assert read.tags.count("script") == plain.tags.count("script") == 2
    assert not [one for one in read.attributes if one[1].startswith("on") or one[1] == "src"]
    for _, name, value in read.attributes:
        if name == "href":
            assert re.fullmatch(r"#[nbg]\d+", value)
    page(hostile()).encode()


def test_every_fact_is_on_the_page():
    text = page(five())
    lineage = five()
    for node in lineage.jobs.values():
        record = node.record
        for fact in (
            node.job_id, record.task, record.fingerprint, record.result.address.hex(), *node.signers,
            record.environment.hex(), record.worker, "ada on node07", "312 MB", "160 kB", "2.5 s",
            "attempt 2", "<samp>300.0</samp>", "subject01.dat", "numpy.ndarray",
        ):  # fmt: skip
            assert fact in text


def test_the_page_of_real_jobs():
    """What kachery.lineage finds, with a file, a job that was asked for by another one, and an array."""
    uri = kachery.store_text("raw " * 100, label="raw.dat")
    job = combine.job([scaled.job(uri, factor) for factor in (1, 2)])
    job.result()
    text = page(kachery.lineage(job))
    for fact in ("combine, job", ">raw.dat<", job.id, "Asked for", ">inner ", "<var>factor</var>"):
        assert fact in text
    boxes = re.findall(r'<a class="box (\w+)', text)
    assert sorted(boxes) == ["input", "job", "job", "job", "job"]
    down = page(kachery.lineage(uri, down=True))
    assert "What was made from it" in down and len(re.findall('<a class="box job', down)) == 3


@kachery.task
def inner(x):
    return x


@kachery.task
def scaled(uri, factor):
    return np.arange(20_000.0) * factor


@kachery.task
def combine(parts):
    return inner(7) + float(sum(part.sum() for part in parts))


def test_a_page_of_many_jobs_is_made_in_seconds_and_says_each_once():
    text = page(two_thousand())
    assert text.count("<details ") == 2_082 + 480 + 1  # jobs, files, the mutable
    assert len(text) < 6_000_000


def test_the_files_of_the_page_are_in_the_wheel():
    out = run_python("""
        import tomllib
        from pathlib import Path
        import kachery_tasks.lineage
        folder = Path(kachery_tasks.lineage.__file__).parent
        patterns = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text())
        patterns = patterns["tool"]["setuptools"]["package-data"]["kachery_tasks.lineage"]
        packed = {path.name for pattern in patterns for path in folder.glob(pattern)}
        print(*sorted(packed))
    """).stdout.split()
    assert out == ["page.css", "page.html", "page.js", "places.js", "view.js"]


# In a browser

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser():
    """A real browser, or a skip that says aloud what nobody looked at."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        lacking = (
            "chromium or playwright is not on this machine, so NOBODY LOOKED AT THE LINEAGE PAGE:"
            " apt-get install chromium; pip install playwright"
        )
        if os.environ.get("KACHERY_TEST_BROWSER") == "1":
            pytest.fail(lacking)
        pytest.skip(lacking)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        yield browser
        browser.close()


class Opened:
    """A page in a tab, and what it did."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def box(self, title):
        return self.page.locator("a.box", has_text=title).first


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a lineage. At its end it has said nothing, and asked nobody for anything."""
    tabs = []

    def open(lineage, **options):
        path = tmp_path / f"page{len(tabs)}.html"
        path.write_text(page(lineage), encoding="utf-8")
        tabs.append(Opened(browser, path, **options))
        return tabs[-1]

    yield open
    for tab in tabs:
        assert tab.said == []
        assert [url for url in tab.asked if not url.startswith("file://")] == []
        assert len(tab.asked) == 1
        tab.context.close()


def colours(png):
    """How many different pixels rows of a PNG have at most (a plain page has one row, repeated)."""
    data, at = b"", 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    return len(zlib.decompress(data)), len(data)


def test_the_picture_is_drawn_and_a_click_tells_the_facts(opened):
    tab = opened(five())
    assert tab.page.locator("a.box").count() == 6
    assert tab.page.locator("#picture a.box:visible").count() == 6
    _, drawn = colours(tab.page.screenshot())
    tab.page.evaluate("document.getElementById('world').remove()")
    _, blank = colours(tab.page.screenshot())
    assert drawn > blank + 1_000
    tab = opened(five())
    tab.box("denoise").click()
    facts = tab.text("#panel")
    lineage = five()
    (job_id,) = [name for name, node in lineage.jobs.items() if node.task.endswith("denoise")]
    for fact in (job_id, "lab.filters:denoise", "cutoff", "300.0", "ada on node07", "312 MB"):
        assert fact in facts
    assert tab.page.locator("#lines path.on").count() == 2
    tab.page.locator("#panel a", has_text="load").click()  # from where an argument comes
    assert tab.text("#panel h2").startswith("load")
    tab.page.locator("#panel .close").click()
    assert tab.page.locator("#panel").is_hidden()


def test_a_click_copies_the_id(opened):
    tab = opened(five(), permissions=["clipboard-read", "clipboard-write"])
    tab.box("compare").click()
    tab.page.locator("#panel .copier").first.click()
    tab.page.locator("#panel .copier", has_text="Copied").wait_for()
    assert tab.page.evaluate("navigator.clipboard.readText()") == five().asked[0]


def transform(tab):
    return tab.page.locator("#world").get_attribute("transform")


def test_it_moves_and_grows_by_mouse_and_by_buttons(opened):
    tab = opened(five())
    seen = [transform(tab)]

    def changed():
        seen.append(transform(tab))
        return seen[-1] != seen[-2]

    place = tab.box("denoise").bounding_box()
    tab.page.mouse.move(place["x"] + 90, place["y"] + 20)
    tab.page.mouse.down()
    tab.page.mouse.move(place["x"] + 190, place["y"] + 60, steps=3)
    tab.page.mouse.up()
    assert changed()
    assert tab.page.locator("#panel").is_hidden()  # a drag is no click
    tab.page.mouse.wheel(0, -300)
    tab.page.wait_for_function(
        f"document.getElementById('world').getAttribute('transform') != {seen[-1]!r}"
    )
    assert changed()
    for name in ("Nearer", "Farther"):
        tab.page.get_by_role("button", name=name).click()
        assert changed()
    tab.page.keyboard.press("0")
    assert transform(tab) == seen[0] or changed()


def test_fingers_move_and_spread_it(opened):
    tab = opened(five(), has_touch=True)
    session = tab.context.new_cdp_session(tab.page)

    def touch(kind, *points):
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def scale():
        return float(re.search(r"scale\((.+)\)", transform(tab))[1])

    before = scale()
    touch("touchStart", (300, 300), (360, 300))
    touch("touchMove", (240, 300), (420, 300))
    touch("touchMove", (200, 300), (460, 300))
    touch("touchEnd")
    tab.page.wait_for_function("!document.querySelector('.held')")
    assert scale() > before * 1.5


def test_keys_walk_open_and_search(opened):
    tab = opened(five())
    tab.page.locator("a.box[tabindex='0']").focus()
    focused = "document.activeElement.getAttribute('aria-label') || document.activeElement.id"
    assert tab.page.evaluate(focused).startswith("compare")
    tab.page.keyboard.press("ArrowUp")
    assert tab.page.evaluate(focused).startswith("spectrum")
    for _ in range(3):
        tab.page.keyboard.press("ArrowUp")
    assert tab.page.evaluate(focused).startswith(("load", "subject01"))
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("#panel").is_visible()
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("#panel").is_hidden()
    tab.page.keyboard.press("/")
    assert tab.page.evaluate(focused) == "search"
    tab.page.keyboard.type("denoise 300")
    tab.page.keyboard.press("Enter")
    assert tab.text("#panel h2") == "denoise"


def test_searching_2000_jobs_and_unfolding_them(opened):
    tab = opened(two_thousand())
    assert 0 < tab.page.locator("a.box").count() <= 12
    tab.page.locator("#search").fill("cutoff=17.5")
    assert tab.text("#hits") == "1 found"
    assert tab.page.locator("a.box:not(.dim)").count() == 1
    tab.page.keyboard.press("Enter")
    assert "17.5" in tab.text("#panel")
    tab.page.locator("#search").fill("no such thing")
    assert tab.text("#hits") == "0 found"
    tab.page.locator("#search").fill("")
    tab.page.get_by_role("button", name="Unfold all").click()
    assert tab.page.locator("a.tile").count() == 4 * 480 + 161 + 480
    overlap = tab.page.evaluate("""() => {
        const found = [...document.querySelectorAll("a.box .body")].map((one) => one.getBoundingClientRect());
        return found.some((a, i) => found.some((b, j) => i < j && a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 1 && b.top < a.bottom - 1));
    }""")
    assert not overlap
    tab.page.locator("a.tile").nth(700).dispatch_event("click")
    assert tab.page.locator("a.tile.on").count() == 1
    assert tab.page.locator("a.tile.near").count() >= 1
    names = tab.page.locator("a.tile").all_text_contents()
    assert any("run017.dat" in name for name in names) and any(
        "cutoff=17.5" in name for name in names
    )
    assert tab.page.locator("#panel dl").count() == 1


def test_2000_jobs_that_do_not_fold_are_drawn_and_react(opened):
    tab = opened(random_jobs(2_000))
    assert tab.page.locator("a.box").count() > 800
    tab.page.locator("a.box.asked").click()
    assert tab.page.locator("#panel dl").count() == 1
    tab.page.keyboard.press("0")
    assert float(re.search(r"scale\((.+)\)", transform(tab))[1]) < 0.1
    assert (
        tab.page.locator("a.box text:visible").count() == 0
    )  # colours stand for what nobody could read


def test_a_long_chain_begins_where_it_can_be_read(opened):
    tab = opened(chain(300, 300))
    assert tab.page.locator("a.box").count() == 301
    seen = tab.page.locator("a.box.asked").bounding_box()
    assert seen["width"] > 100 and 0 < seen["y"] < 800


def test_no_script_of_a_hostile_name_runs(opened):
    tab = opened(hostile())
    for box in tab.page.locator("a.box").all():
        box.dispatch_event("click")
        assert tab.page.locator("#panel").is_visible()
    tab.page.locator("#as-list").click()
    for entry in tab.page.locator("details summary").all():
        entry.click()
    assert tab.page.evaluate("window.evil") is None
    assert tab.page.locator("img, iframe, object, svg svg").count() == 0
    assert tab.page.locator("script").count() == 2


def test_a_script_that_was_slipped_in_would_not_run(browser, tmp_path):
    """The policy of the page is the second wall: weaken the first one, and see it hold."""
    text = page(five()).replace(
        "</body>", "<script>window.evil=1</script><img src=x onerror=window.evil=1>"
    )
    (tmp_path / "page.html").write_text(text)
    tab = Opened(browser, tmp_path / "page.html")
    assert tab.page.evaluate("window.evil") is None
    assert any("Content Security Policy" in message for message in tab.said)
    tab.context.close()


def test_without_scripts_there_are_the_picture_and_a_list(opened):
    tab = opened(five(), java_script_enabled=False)
    assert tab.page.locator("a.box:visible").count() == 6
    assert tab.page.locator("#list").is_visible()
    assert tab.page.locator("#search").is_hidden()
    entry = tab.page.locator("details:has(summary:has-text('denoise'))")
    entry.locator("summary").click()
    assert "300.0" in entry.inner_text()


def test_dark_and_light_are_readable(opened):
    """Contrast of text as WCAG AA asks for, of the colours as they are computed."""
    for scheme in ("light", "dark"):
        tab = opened(five(), color_scheme=scheme)
        tab.box("denoise").click()
        pairs = tab.page.evaluate("""() => {
            const colour = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
            const card = colour("#panel", "backgroundColor"), ground = colour("body", "backgroundColor");
            return [[colour("h1", "color"), ground], [colour(".about p", "color"), ground],
                [colour("#panel dt", "color"), card], [colour("#panel a", "color"), card],
                [colour(".box.job .title", "fill"), colour(".box.job .body", "fill")],
                [colour(".box.job .note", "fill"), colour(".box.job .body", "fill")]];
        }""")
        for text, ground in pairs:
            assert contrast(text, ground) >= 4.5, (scheme, text, ground)
    assert len({tab.page.evaluate("getComputedStyle(document.body).backgroundColor")}) == 1


def contrast(one, other):
    def light(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_on_paper_there_are_the_whole_picture_and_the_list(opened, tmp_path):
    tab = opened(chain(60, 60))
    tab.page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    canvas, box = (
        tab.page.locator("#canvas").bounding_box(),
        tab.page.locator("a.box").first.bounding_box(),
    )
    assert (
        box["y"] >= canvas["y"]
        and tab.page.locator("a.box.asked").bounding_box()["y"] < canvas["y"] + canvas["height"]
    )
    assert tab.page.locator("#list").is_visible() and tab.page.locator("#search").is_hidden()


# Jobs in a notebook


@kachery.task
def load(n):
    return [n]


@kachery.task
def denoise(recording, cutoff=300.0):
    return recording


@kachery.task
def total(parts):
    return sum(part[0] for part in parts)


@kachery.task
def fails(recording):
    raise ValueError("<b>no</b>" * 50)


_free = threading.Event()


@kachery.task(ignore=("waiting",))
def waits(n, waiting=None):
    _free.wait(60)
    return n


def html_of(job):
    text = job._repr_html_()
    ET.fromstring(f"<x>{text.replace('&nbsp;', ' ')}</x>")
    return text


def test_a_job_shows_itself():
    job = total.job([denoise.job(load.job(n)) for n in range(3)])
    before = html_of(job)
    assert "pending" in before and "<svg" in before and before.count("denoise") >= 3
    assert job.future is None and not job.cached  # nothing ran
    job.result()
    for again in (job, total.job([denoise.job(load.job(n)) for n in range(3)])):
        text = html_of(again)
        assert "<b>finished</b>" in text and job.id[:16] in text and "int, " in text
        assert job.task in text and "took" in text and "started" in text


def test_failed_running_and_cancelled_jobs_show_themselves():
    failed = fails.submit(load.job(1))
    assert failed.exception() is not None
    text = html_of(failed)
    assert "error" in text and "ValueError: &lt;b&gt;no" in text and "<b>no" not in text
    assert "error" in html_of(denoise.job(failed))
    _free.clear()
    running = waits.submit(1)
    try:
        while running.status != "running":
            threading.Event().wait(0.01)
        assert "<b>running</b>" in html_of(running)
        behind = waits.submit(running)
        assert "<b>pending</b>" in html_of(behind)
        assert behind.cancel()
        html_of(behind)
    finally:
        _free.set()
    running.result()


def test_a_job_on_many_others_looks_none_of_them_up(monkeypatch):
    parts = [denoise.job(load.job(n)) for n in range(2_000 if FULL else 300)]
    many = total.job(parts)
    looked = []
    monkeypatch.setattr(type(many.runner), "lookup", lambda *_: looked.append(1))
    text = html_of(many)
    assert not looked and f"{len(parts):,} {X} denoise" in text and "not started" in text
    far = load.job(0)
    for _ in range(300):
        far = denoise.job(far)
    html_of(far)
    assert not looked
    few = total.job(parts[:3])
    html_of(few)
    assert 0 < len(looked) < 60


def test_looking_at_a_job_never_raises(monkeypatch):
    job = denoise.job(load.job(1))

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(type(job.runner), "lookup", broken)
    assert "denoise" in html_of(job)
    monkeypatch.setattr(notebook, "drawn", broken)
    assert "load" in html_of(load.job(2))


def test_looking_at_a_job_imports_little():
    """`import kachery` knows nothing of pictures."""
    names = run_python("import sys, kachery; print(*sys.modules)").stdout.split()
    assert not [name for name in names if "drawing" in name or "lineage" in name]
