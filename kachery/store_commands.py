"""The commands that keep a store small, sound and known: gc, pin, verify, info, doctor, repair."""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from kachery_store import Digest, NotFound, Store
from kachery_store.amounts import parse_size, parse_span, size_text
from kachery_store.blobs import Blobs
from kachery_store.doctor import PROBLEM, Finding, examine
from kachery_store.errors import BadAmount, DigestMismatch
from kachery_store.gc import Collected
from kachery_store.pins import JOB, parse_pinned
from kachery_store.removal import Plan
from kachery_store.verify import Verified
from kachery_tasks import keeping
from kachery_tasks.holdings import check_entry, holdings
from kachery_tasks.settings import current

from .running import SETTINGS

_SHOWN = 20  # lines of a plan; --verbose shows all


def _amount(parse: Callable[[str], float]) -> Callable[..., float | None]:
    """What reads an option that is a size or a span of time."""

    def read(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else parse(text)
        except BadAmount as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


_size: dict[str, Any] = {"callback": _amount(parse_size), "metavar": "SIZE"}
_span: dict[str, Any] = {"callback": _amount(parse_span), "metavar": "SPAN"}


@click.command(context_settings=SETTINGS)
@click.option("--max-size", help="How much may stay: 100GB, 1.5TiB.", **_size)
@click.option("--max-items", type=click.IntRange(min=0), help="How many jobs may stay.")
@click.option("--older-than", help="Jobs not used for so long go: 90d, 12h.", **_span)
@click.option("--files", is_flag=True, help="Named files too, not only jobs.")
@click.option("--orphans", is_flag=True, help="Also blobs by BLAKE3 that no job holds.")
@click.option(
    "--grace",
    default="1h",
    show_default=True,
    help="What nothing holds and is younger stays.",
    **_span,
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--verbose", "-v", is_flag=True, help="Name everything that goes.")
def gc(dry_run: bool, verbose: bool, **limits: Any) -> None:
    """Make the store smaller: what is cheap to compute again and long unused goes first.

    Pins and what they reach stay, and what somebody uses now. Without a limit, maxCacheSizeGiB of
    kachery.toml counts.

    Example: kachery gc --max-size 100GB --dry-run
    """
    with _bar("collect", None) as bar:
        done = keeping.gc(dry_run=dry_run, progress=bar.update, **limits)
    _tell_plan(done.plan, everything=verbose)
    click.echo(_outcome(done, dry_run))


def _tell_plan(plan: Plan, *, everything: bool) -> None:
    shown = plan.going if everything else plan.going[:_SHOWN]
    for one in shown:
        cost = "cannot be computed again" if one.seconds is None else f"{one.seconds:.3g} s"
        click.echo(f"{size_text(one.size):>8}  {cost:>9}  {one.what}")
    if len(shown) < len(plan.going):
        click.echo(f"and {len(plan.going) - len(shown)} more; --verbose shows all")


def _outcome(done: Collected, dry_run: bool) -> str:
    plan = done.plan
    before = f"of {size_text(plan.size)} with {plan.items} jobs"
    if dry_run:
        return f"would free {size_text(plan.freed)} {before}; nothing was changed"
    spared = f"; {done.spared} files stayed because they came into use meanwhile"
    return f"freed {size_text(done.freed)} {before}{spared if done.spared else ''}"


@click.command(context_settings=SETTINGS)
@click.argument("what", nargs=-1, required=True)
@click.option("--reason", default="", help="Why, for those who see the pin later.")
def pin(what: tuple[str, ...], reason: str) -> None:
    """Keep files or jobs from garbage collection: URIs, or the beginnings of job ids.

    A job keeps its result, and the jobs that made its arguments.

    Example: kachery pin 3f9a2c --reason "figure 3"
    """
    for one in what:
        click.echo(keeping.pin(one, reason))


@click.command(context_settings=SETTINGS)
@click.argument("what", nargs=-1, required=True)
def unpin(what: tuple[str, ...]) -> None:
    """Take pins back."""
    missing = [one for one in what if not keeping.unpin(one)]
    if missing:
        raise NotFound(f"not pinned: {', '.join(missing)}; `kachery pins` lists what is")


@click.command(context_settings=SETTINGS)
def pins() -> None:
    """List what is pinned, when and why."""
    for one in keeping.pins():
        click.echo(f"{_when(one.time) if one.time else '':19}  {one.uri}  {one.reason}".rstrip())


@click.command(context_settings=SETTINGS)
@click.option(
    "--all", "afresh", is_flag=True, help="From the beginning, even after an interruption."
)
@click.option("--threads", type=click.IntRange(min=1), help="How many; by default one per CPU.")
def verify(afresh: bool, threads: int | None) -> None:
    """Check everything that is stored against its digest; damage goes to quarantine.

    A run that was interrupted goes on where it was. The exit code is 1 when something is damaged.
    """
    run = keeping.verification(afresh=afresh)
    if run.before.files:
        click.echo(f"going on after {run.before.files} files, {size_text(run.before.bytes)}")
    with _bar("verify", run.bytes) as bar:
        done = run.run(threads=threads, progress=bar.update)
    _tell_verified(done)
    if done.damaged:
        sys.exit(1)


def _tell_verified(done: Verified) -> None:
    for one in done.damaged:
        click.echo(
            f"{one.name}: {one.why}; {f'moved to {one.moved}' if one.moved else 'left there'}"
        )
    click.echo(
        f"{done.files} files, {size_text(done.bytes)} in {done.seconds:.3g} s: {done.rate:.3g} GB/s;"
        f" {len(done.damaged)} damaged"
    )
    if done.damaged:
        click.echo("`kachery repair` forgets them, or fetches them again")


@click.command(context_settings=SETTINGS)
@click.argument("uri")
def info(uri: str) -> None:
    """Tell where something is stored, how large it is, when it was used, and whether it is intact.

    URI: of a file or a job, or the beginning of a job id.
    """
    store = current().store
    for name, text in _facts(store, keeping.uri_of(store, uri)):
        click.echo(f"{name:10} {text}")


def _facts(store: Store, uri: str) -> list[tuple[str, str]]:
    pinned = parse_pinned(uri)
    status = store.backend.stat(pinned.name)
    if status is None:
        raise NotFound(f"{uri} is not in the store at {store.root}")
    facts = [
        ("uri", uri),
        ("path", store.backend.path(pinned.name)),
        ("size", f"{size_text(status.st_size)} ({status.st_size} bytes)"),
        ("stored", _when(status.st_mtime)),
        ("last used", _when(max(status.st_atime, status.st_mtime))),
        ("pinned", "yes" if store.pins.has(uri) else "no"),
    ]
    if pinned.kind == JOB:
        return facts + _facts_of_job(store, pinned.hex)
    return [*facts, ("intact", _is_intact(store, Digest(pinned.kind, pinned.hex)))]


def _facts_of_job(store: Store, job_id: str) -> list[tuple[str, str]]:
    held = holdings(store)(job_id, store.jobs.read(job_id))
    blobs = [(str(digest), _is_intact(store, digest)) for digest, _ in held.blobs]
    return [
        ("task", held.task),
        ("took", f"{held.seconds:.3g} s"),
        *(("blob", f"{digest}, intact: {intact}") for digest, intact in blobs),
        *(("names", str(digest)) for digest in held.files),
    ]


def _is_intact(store: Store, digest: Digest) -> str:
    try:
        Blobs(store.backend).path(digest)  # the file here, not that of a zone
    except (NotFound, DigestMismatch) as error:
        return f"no: {error}"
    return "yes"


@click.command(context_settings=SETTINGS)
@click.option("--fix", is_flag=True, help="Do what is safe to do.")
def doctor(fix: bool) -> None:
    """Look for what is wrong with the store, or may soon be, and say what to do about it.

    The exit code is 1 when a problem is left.
    """
    problems = 0
    for finding in examine(current().root, check_entry):
        click.echo(f"{finding.severity}: {finding.what}")
        if not (fix and _fixed(finding)):
            click.echo(f"    {finding.advice}{_hint(finding, fix)}")
            problems += finding.severity == PROBLEM
    if problems:
        sys.exit(1)
    click.echo(f"{current().root}: no problem is left")


def _fixed(finding: Finding) -> bool:
    if finding.fix is None:
        return False
    try:
        click.echo(f"    {finding.fix()}")
    except OSError as error:
        click.echo(f"    could not be fixed: {error}")
        return False
    return True


def _hint(finding: Finding, fix: bool) -> str:
    return " (--fix does that)" if finding.fix is not None and not fix else ""


@click.command(context_settings=SETTINGS)
@click.option("--discard", is_flag=True, help="Also the damaged bytes of files that are lost.")
def repair(discard: bool) -> None:
    """Forget what is damaged, and say what was lost.

    Jobs are computed again when they are next asked for. The exit code is 1 when a file is lost.
    """
    done = keeping.repair(discard=discard)
    for uri in done.fetched:
        click.echo(f"fetched again: {uri}")
    for job in done.forgotten:
        click.echo(f"forgotten, computed again when asked for: {job}")
    for uri in done.lost:
        click.echo(f"lost: {uri}; store the file again if you have it elsewhere")
    for path in done.salvage:
        click.echo(f"its damaged bytes: {path}")
    click.echo(
        f"{len(done.fetched)} fetched, {len(done.forgotten)} jobs forgotten, {len(done.lost)} files"
        f" lost, {done.cleared} files cleared from quarantine"
    )
    if done.lost:
        sys.exit(1)


def add_store_commands(group: click.Group) -> None:
    """Add all of these commands to a group."""
    for command in (gc, pin, unpin, pins, verify, info, doctor, repair):
        group.add_command(command)


def _bar(what: str, size: int | None) -> Any:
    from tqdm.auto import tqdm

    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    return tqdm(total=size, unit="B", unit_scale=True, desc=what, delay=1, disable=quiet)


def _when(moment: float) -> str:
    local = datetime.datetime.fromtimestamp(min(moment, time.time() + 1e9)).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")
