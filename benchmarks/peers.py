"""kachery beside what people use today, side by side in one run.

    python benchmarks/peers.py                             # all of it; about half an hour
    python benchmarks/peers.py --quick                     # a hundredth of the sizes; a few minutes
    python benchmarks/peers.py --only small fresh          # some workloads (a prefix is enough)
    python benchmarks/peers.py --peers joblib diskcache    # some libraries, beside kachery
    python benchmarks/peers.py --into docs/performance.md --figure benchmarks/peers.svg

Each library is installed into an environment of its own, which is kept (`--cache`), and runs in child
processes there; kachery runs from the working tree. In each workload the libraries take turns and who
begins changes, so that a busy moment of the machine meets them all. The tables have medians.

That a hit was a hit and a miss a miss is checked by counting runs. Arguments that differ a little must
not be taken for each other, and must be found again from another process; a library that fails this is
marked. One that raises, or takes longer than `--seconds` for one step, is shown as such; one whose repeats
together took so long does no more of them. Who lists 20,000 results does it as the library offers it.

All folders are temporary and on one disk (`--dir`), files come from the memory of the operating system.
Up to 8 GB of memory and 6 GB of disk are used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from peers_run.driver import Outcome, run
from peers_run.environments import NotInstalled, default_cache, environment, own_version
from peers_run.libraries import Library, libraries
from peers_run.plan import Workload, workloads
from peers_run.report import lines_of, put_into, report


def main() -> None:
    """Do what the command line says."""
    options = _options()
    chosen = [one for one in libraries() if _is_wanted(one, options.peers)]
    planned = [one for one in workloads(quick=options.quick) if _starts(one.name, options.only)]
    if not planned:
        sys.exit(f"no workload is called {' or '.join(options.only)}: see --list")
    if options.list:
        print(
            *(f"{one.name:20} {', '.join(row.title for row in one.rows)}" for one in planned),
            sep="\n",
        )
        return
    entrants = _installed(chosen, options)
    measured: list[tuple[Workload, dict[str, Outcome]]] = []
    versions = {library.name: _version(library, python) for library, python in entrants}
    versions = {name: version for name, version in versions.items() if version}
    with tempfile.TemporaryDirectory(prefix="kachery-peers-", dir=options.dir) as folder:
        try:
            for workload in planned:
                seconds = options.seconds * workload.patience
                outcomes = run(workload, entrants, Path(folder), seconds)
                measured.append((workload, outcomes))
        except KeyboardInterrupt:
            print("\ninterrupted: this is what there is by now\n", file=sys.stderr)
    here = [library for library, _ in entrants]
    lines = lines_of(measured)
    how = "With `--quick`, a hundredth of the sizes: rough. " if options.quick else ""
    text = report(lines, here, versions, how=how)
    print(text)
    if options.into:
        put_into(options.into, text)
    if options.figure:
        from peers_run.figure import draw

        draw(lines, here, options.figure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the sizes")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORKLOAD")
    parser.add_argument("--peers", nargs="+", default=[], metavar="LIBRARY")
    parser.add_argument("--list", action="store_true", help="print the workloads and stop")
    parser.add_argument("--seconds", type=float, default=30.0, help="that one step may take")
    parser.add_argument("--dir", type=Path, help="where the temporary folders go")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="environments go there")
    parser.add_argument(
        "--here", action="store_true", help="install nothing: use the libraries of this Python"
    )
    parser.add_argument("--into", type=Path, help="write the tables there, between its markers")
    parser.add_argument("--figure", type=Path, help="draw the times there (matplotlib)")
    options = parser.parse_args()
    options.peers = _split(options.peers)
    options.only = _split(options.only)
    return options


def _split(given: list[str]) -> list[str]:
    return [name for one in given for name in one.split(",") if name]


def _is_wanted(library: Library, names: list[str]) -> bool:
    return not names or library.name in {"kachery", *names}


def _starts(name: str, starts: list[str]) -> bool:
    return not starts or any(name.startswith(start) for start in starts)


def _installed(chosen: list[Library], options: argparse.Namespace) -> list[tuple[Library, str]]:
    found = []
    for library in chosen:
        try:
            python = (
                sys.executable
                if options.here
                else environment(library.name, library.requirements, options.cache.absolute())
            )
        except NotInstalled as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found.append((library, python))
    return found


def _version(library: Library, python: str) -> str:
    """The version of a library in its environment; nothing for what is none."""
    if library.name == "kachery":
        return own_version()
    if not library.is_peer:
        return ""
    distribution = library.requirements[0].partition(">")[0]
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
