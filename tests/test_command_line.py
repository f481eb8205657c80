"""The command `kachery` as a whole: examples, --json, exit codes, tracebacks, colours, sections."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import run_python

import kachery
from kachery import cli, file_commands
from kachery.help_pages import examples_of
from kachery.running import EXIT_CODES, run_command
from kachery_store.identity import own_identity

PAGE = Path(__file__).parent.parent / "docs/commands.md"
NO_JSON = {"cat", "id export"}  # what they print is a file


def below(group, path=""):
    for name, command in group.commands.items():
        here = f"{path} {name}".strip()
        yield here, command
        if isinstance(command, click.Group):
            yield from below(command, here)


COMMANDS = dict(below(cli.cli))
OF_KACHERY_2 = {
    "kachery-store": file_commands.store_command,
    "kachery-cat": file_commands.cat_command,
}


@kachery.task(version="1")
def halved(x):
    print("halving")
    return x / 2


def of_version(version):
    @kachery.task(version=version, name="command_line:changed")
    def changed(x):
        return x

    return changed


@kachery.task(version="1")
def broken(x):
    raise ValueError(f"\x1b[31mnot {x}\x1b[0m")


@kachery.action(version="1")
def noted(x):
    pass


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs a command as the shell does; returns exit code, standard output, standard error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("KACHERY_DEBUG", "")  # what --debug sets is taken back
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words, command=cli.cli):
        monkeypatch.setattr(sys, "argv", ["kachery", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(command)
        return end.value.code, *capsys.readouterr()

    return run


def failing(monkeypatch, error, name="jobs"):
    """Let a command raise."""

    def callback(**_):
        raise error

    monkeypatch.setattr(COMMANDS[name], "callback", callback)


# ---------------------------------------------------------------------- examples


@pytest.mark.parametrize("path", ["", *COMMANDS])
def test_every_command_has_examples_that_it_understands(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recording.dat").write_bytes(b"")
    examples = examples_of(COMMANDS[path] if path else cli.cli)
    assert examples, f"{path}: a line `Example: kachery {path} ...` in the docstring is missing"
    for line in examples:
        words = shlex.split(line.partition(" | ")[0])
        assert " ".join(words).startswith(f"kachery {path}".rstrip()), line
        parse(cli.cli, words[1:])


def parse(command, words):
    try:
        with command.make_context(command.name, words) as context:
            first = "_protected_args" if hasattr(context, "_protected_args") else "protected_args"
            rest = [*getattr(context, first), *context.args]
            if isinstance(command, click.Group) and rest:
                _, below_it, rest = command.resolve_command(context, rest)
                parse(below_it, rest)
    except click.exceptions.Exit as end:
        assert end.exit_code == 0  # of --help


def test_help_shows_examples_as_they_are_written():
    shown = CliRunner().invoke(cli.cli, ["jobs", "forget", "--help"], terminal_width=50).output
    assert "Example:\n  kachery jobs forget --task denoise --older-than 30d --dry-run\n" in shown
    assert shown.count("Example") == 1 and "\x1b" not in shown


# ---------------------------------------------------------------------- JSON


def test_every_command_has_json():
    missing = {
        path
        for path, command in COMMANDS.items()
        if not (isinstance(command, click.Group) and not command.invoke_without_command)
        and not any("--json" in one.opts for one in command.params)
    }
    assert missing == NO_JSON
    told = PAGE.read_text().partition("## JSON")[2].partition("\n## ")[0]
    assert all(f"`kachery {path}`" in told for path in NO_JSON)


def in_words(text, words):
    return [words.get(one, one) for one in text.split()]


# What is run in this order, and some fields of the objects that are printed.
TELLING = """
    id                                      key private_key_in
    id import mine                          key earlier_key
    jobs                                    job_id task kind started seconds result status=finished
    jobs --failed                           job_id task error message status=failed
    show JOB                                job_id task arguments signers environment
    show FAILED                             job_id task status=failed
    show ACTION                             job_id action state
    actions                                 job_id action state
    resolve ACTION --done                   ?1
    explain JOB                             job_id task hit other differences coverage
    runs                                    job_id task kind status result verdicts
    reproduce JOB                           job_id task verdict=same why environment
    stale                                   job_id task started reasons
    lineage JOB                             jobs inputs
    lineage JOB -o l.html                   about path=l.html
    zone add lab ZONE                       name=lab url path options
    zone list                               name=lab url in_force
    zone check lab                          name=lab url reading_seconds create clock_skew
    push JOB --zone lab                     things lost
    pull JOB --zone lab                     things lost
    trust add KEY --name Ada                key name=Ada zone task pickle until own=False
    trust list                              key name pickle own
    trust remove KEY                        key removed=True
    bundle JOB -o b.zip                     path about jobs bytes left_out gone
    verify b.zip                            path about jobs signers unsigned
    import b.zip                            report jobs known refused
    store a.txt b.txt                       uri path
    link a.txt                              uri path
    load URI                                uri path
    info URI                                uri path size intact=True pinned=False held_by
    info URI --zone lab                     uri zone=lab
    info JOB                                uri job_id task seconds
    pin JOB URI                             uri reason zone
    pins                                    uri reason time zone
    unpin JOB URI                           unpinned zone
    feed create notes                       name=notes uri zone
    feed list                               name uri read_only=False
    feed append notes/main {"a":1}          uri appended=1 final=False
    feed read notes/main                    a=1
    feed submit notes/main {"a":2}          uri submitted=1 url zone
    feed inbox notes/main                   writer sent message
    feed integrate notes/main --from OWN    uri accepted=1 refused=0 waiting is_all
    feed verify notes                       uri zone messages
    feed publish notes --zone lab           uri zone=lab added
    feed subscribe FEED --zone lab          uri zone=lab name added
    verify                                  files bytes seconds damaged zone
    verify --zone lab                       files bytes seconds damaged zone=lab
    gc --max-items 0 --dry-run              dry_run=True freed size jobs going spared
    gc --zone lab --max-size 1B --dry-run   zone=lab dry_run=True freed size records going
    doctor                                  what severity advice can_fix fixed
    repair                                  fetched forgotten lost salvage cleared zone
    jobs forget --failed --yes              dry_run=False records failures pinned
"""


def test_what_commands_tell_as_json(tmp_path, monkeypatch, ended):
    """One scenario, with each command that has --json: nothing but objects is printed, one a line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    Path("a.txt").write_text("a")
    Path("b.txt").write_text("b")
    own = own_identity()
    assert ended("id", "export", "mine")[0] == 0
    job, failed, action = halved.job(3), broken.job(1), noted.job(1)
    job.result()
    action.result()
    of_version("1")(1)
    changed = of_version("2")
    with pytest.raises(ValueError, match="not 1"):
        failed.result()
    words = {"JOB": job.id, "FAILED": failed.id, "ACTION": action.id, "OWN": own.public.hex()}
    words |= {"ZONE": f"{tmp_path}/zone", "URI": kachery.store_text("text"), "KEY": "5f" * 32}
    seen = set()
    for line in TELLING.strip().splitlines():
        text, *fields = re.split(r"\s{2,}", line.strip())
        done = ended(*in_words(text, words), "--json")
        told = told_as_json(done, text, fields[0].split())
        if text == "feed create notes":
            words["FEED"] = told[0]["uri"]
        seen.add(max((path for path in COMMANDS if text.startswith(path)), key=len))
    groups = {path for path, one in COMMANDS.items() if isinstance(one, click.Group)}
    assert set(COMMANDS) - seen - NO_JSON <= groups
    assert not changed.job(1).cached


def told_as_json(done, words, fields):
    if fields == ["?1"]:  # an error: nothing is told
        assert done[:2] == (1, "")
        return []
    assert done[0] == 0, (words, *done)
    told = [json.loads(line) for line in done[1].splitlines()]
    assert told, words
    for one in told:
        for field, _, value in (field.partition("=") for field in fields):
            assert field in one or field == "held_by", (words, field, one)
            assert not value or str(one[field]) == value, (words, field, one)
    return told


def test_errors_with_json_are_sentences(ended):
    code, out, err = ended("show", "77aa", "--json")
    assert (code, out) == (1, "") and err.startswith("kachery: no job 77aa")


# ---------------------------------------------------------------------- exit codes and errors


def test_exit_codes(ended, monkeypatch):
    assert ended("jobs")[0] == 0
    assert ended("--help")[0] == 0
    assert ended("show", "77aa")[0] == 1
    code, out, err = ended("jobs", "--limit", "many")
    assert (code, out) == (2, "") and "Try 'kachery jobs -" in err and "--limit" in err
    failing(monkeypatch, OSError(28, "No space left on device", "/there"))
    assert ended("jobs") == (1, "", "kachery: [Errno 28] No space left on device: '/there'\n")


def test_exit_codes_are_documented():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
    shown = CliRunner().invoke(cli.cli, ["--help"], terminal_width=200).output
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", shown, re.MULTILINE), code


def test_what_is_not_as_it_should_be(ended):
    """Unlike after an error, what was found is told then."""
    uri = kachery.store_text("text")
    file = Path(kachery.load_file(uri))
    file.chmod(0o644)
    file.write_text("tax")
    code, out, _ = ended("verify", "--all", "--json")
    (damage,) = json.loads(out)["damaged"]
    assert code == 1 and damage["name"].startswith("sha1/") and damage["moved"]
    code, out, _ = ended("repair", "--json")
    assert code == 1 and json.loads(out)["lost"] == [uri.partition("?")[0]]


def test_warnings_are_lines(ended, monkeypatch):
    monkeypatch.setattr(
        COMMANDS["jobs"], "callback", lambda **_: warnings.warn("mind this", stacklevel=1)
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert ended("jobs") == (0, "", "\x1b[33mkachery:\x1b[0m mind this\n")


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), EOFError("by 0"), KeyError("by 0")])
def test_an_error_inside_of_kachery_shows_no_traceback(ended, monkeypatch, error):
    failing(monkeypatch, error)
    code, out, err = ended("jobs")
    assert (code, out) == (70, "")
    what = f"{type(error).__name__}: {error}"
    assert err.lstrip("\n") == (
        f"kachery: internal error: {what}; run again with --debug for the traceback, and please report"
        " it\n"
    )


@pytest.mark.parametrize("words", [["--debug", "jobs"], ["jobs", "--debug"], ["jobs"]])
def test_tracebacks_to_debug(ended, monkeypatch, words):
    if "--debug" not in words:
        monkeypatch.setenv("KACHERY_DEBUG", "1")
    failing(monkeypatch, ZeroDivisionError("by 0"))
    code, _, err = ended(*words)
    assert code == 70 and err.startswith("Traceback") and "in callback\n" in err
    assert err.endswith("kachery: internal error: ZeroDivisionError: by 0; please report it\n")


def test_tracebacks_of_errors_with_a_sentence(ended, monkeypatch):
    code, _, err = ended("--debug", "show", "77aa")
    assert code == 1 and err.startswith("Traceback") and "\nkachery: no job 77aa" in err
    code, _, err = ended("reproduce", "77aa")  # the variable is set by now, for processes too
    assert code == 2 and err.startswith("Traceback") and "\nkachery: no job 77aa" in err
    monkeypatch.setenv("KACHERY_DEBUG", "0")
    assert ended("show", "77aa")[2].count("\n") == 1


def test_the_commands_of_kachery_2_have_the_variable(ended, monkeypatch):
    def callback(**_):
        raise ZeroDivisionError("by 0")

    command = file_commands.cat_command
    monkeypatch.setattr(command, "callback", callback)
    code, _, err = ended("sha1://x", command=command)
    assert code == 70 and "run again with KACHERY_DEBUG=1" in err and "Traceback" not in err
    monkeypatch.setenv("KACHERY_DEBUG", "1")
    assert "Traceback" in ended("sha1://x", command=command)[2]


def test_an_interrupted_command(ended, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    code, out, err = ended("jobs")
    assert (code, out, err.strip()) == (130, "", "kachery: interrupted")


def test_ctrl_c_while_a_feed_is_followed():
    kachery.create_feed("notes").load_subfeed("main").append_message({"a": 1})
    code = "import sys; sys.argv[0] = 'kachery'; from kachery.cli import run; run()"
    command = [sys.executable, "-c", code, "feed", "read", "notes/main", "--follow"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert json.loads(process.stdout.readline()) == {"a": 1}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "kachery: interrupted")


@pytest.mark.parametrize(("answer", "code"), [("n", 1), (None, 1), (KeyboardInterrupt, 130)])
def test_a_question_that_is_not_answered_with_yes(ended, monkeypatch, answer, code):
    halved(3)

    def asked(*_):
        if answer is None:
            raise EOFError
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click.termui, "visible_prompt_func", asked)
    done, _, err = ended("jobs", "forget", "--task", "halved")
    assert done == code and "internal error" not in err and halved.job(3).cached
    assert err.strip().endswith("interrupted" if code == 130 else "nothing was done")


# ---------------------------------------------------------------------- colours and width

COLOUR = re.compile(r"\x1b\[[\d;]*m")


def on_a_terminal(columns, *commands, **environment):
    """What commands write to a terminal, standard error included."""
    code = """
    import sys
    from kachery.cli import run
    for command in sys.argv[1:]:
        sys.argv = ["kachery", *command.split()]
        try:
            run()
        except SystemExit:
            pass
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    mine = {"TERM": "xterm", **environment}
    without = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"}
    around = {name: text for name, text in os.environ.items() if name not in without}
    lines = re.sub("^    ", "", code, flags=re.MULTILINE)
    command = [sys.executable, "-c", lines, *commands]
    with subprocess.Popen(command, env=around | mine, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        read = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the other side is closed: EIO on Linux
                break
            if not piece:
                break
            read += piece
    os.close(ours)
    assert process.returncode == 0
    return read.decode().replace("\r\n", "\n")


def test_on_a_terminal():
    halved(3)
    with pytest.raises(ValueError, match="not 1"):
        broken(1)
    shown = on_a_terminal(70, "jobs", "jobs --failed", "show 77aa", "jobs --json")
    table, _, rest = shown.partition('{"job_id"')
    job = halved.job(3)
    assert f"\x1b[1m{job.id[:12]}\x1b[0m" in table
    assert "\x1b[2mJOB" in table and "\x1b[31mkachery:\x1b[0m no job 77aa" in table
    assert "\x1b[31mnot" not in table  # the task's own
    assert not COLOUR.search(rest)
    rows = [line for line in COLOUR.sub("", table).splitlines() if "kachery:" not in line]
    rows = [line for line in rows if line.startswith(("JOB", job.id[:12], broken.job(1).id[:12]))]
    assert len(rows) == 4 and all(len(line) <= 70 for line in rows), rows
    assert "..._line:halved" in rows[1] and "Value" in rows[3] and rows[3].endswith("...")


def test_on_a_terminal_of_somebody_who_wants_no_colour():
    halved(3)
    shown = on_a_terminal(200, "jobs", "show 77aa", NO_COLOR="1")
    assert "halved" in shown and "kachery: no job 77aa" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR_FORCE": "0", "CLICOLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)
def test_in_a_pipe(ended, monkeypatch, variables, coloured):
    halved(3)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert bool(COLOUR.search(ended("jobs")[1])) == coloured
    assert bool(COLOUR.search(ended("show", "77aa")[2])) == coloured
    assert bool(COLOUR.search(ended("show")[2])) == coloured
    assert bool(COLOUR.search(ended("jobs", "--help")[1])) == coloured
    assert not COLOUR.search(ended("jobs", "--json")[1])


def test_tables_in_a_pipe_are_whole(ended, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    halved(3)
    assert f"{halved.job(3).id[:12]}  {halved.job(3).task}  " in ended("jobs")[1]


# ---------------------------------------------------------------------- finding a command


def test_a_command_does_not_import_the_others():
    code = """
    import sys, kachery.cli
    sys.argv = ["kachery", "jobs"]
    try:
        kachery.cli.run()
    except SystemExit:
        print(*sys.modules)
    """
    loaded = set(run_python(code).stdout.split())
    assert "kachery.jobs_commands" in loaded
    assert not loaded & {"kachery.show_command", "kachery.store_commands", "kachery_tasks.bundles"}
    assert not loaded & {"dask", "distributed", "fsspec", "numpy", "tqdm"}


def test_help_lists_all_commands_under_headings():
    shown = CliRunner().invoke(cli.cli, ["--help"], terminal_width=80).output
    found = re.findall(r"^(\w+):\n((?:  .+\n)+)", shown, re.MULTILINE)
    sections = {title: re.findall(r"^  (\S+) +(.+)$", text, re.MULTILINE) for title, text in found}
    wanted = ["Jobs", "Sharing", "Trust", "Feeds", "Files", "Keeping"]
    assert [title for title in sections if title in wanted] == wanted
    listed = [name for title in wanted for name, _ in sections[title]]
    assert sorted(listed) == sorted(cli.cli.commands)
    assert all(name == command.name for name, command in cli.cli.commands.items())
    cut = [text for title in wanted for _, text in sections[title] if text.endswith("...")]
    assert cut == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["jobz"], "Did you mean 'jobs'?"),
        (["forget"], "Did you mean 'jobs forget'?"),
        (["feed", "apend"], "Did you mean 'append'?"),
        (["zone", "chek", "lab"], "Did you mean 'check'?"),
    ],
)
def test_a_command_that_is_nearly_one(ended, words, meant):
    code, _, err = ended(*words)
    assert code == 2 and meant in err


def test_a_command_that_is_none(ended):
    code, _, err = ended("qqqqqq")
    assert code == 2 and err.rstrip().endswith("No such command 'qqqqqq'.")
    code, _, err = ended("--qqqqqq")
    assert code == 2 and "No such option" in err


def test_completion_in_shells(ended, monkeypatch):
    monkeypatch.setenv("_KACHERY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "kachery re")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert ended()[1].split() == ["plain,repair", "plain,reproduce", "plain,resolve"]
    assert 'eval "$(_KACHERY_COMPLETE=bash_source kachery)"' in PAGE.read_text()


def test_the_commands_about_files(tmp_path, ended):
    file = tmp_path / "a.txt"
    file.write_text("text")
    code, out, _ = ended("store", file, "--label", "b.txt")
    assert code == 0 and out.endswith("?label=b.txt\n")
    assert ended("link", file)[1].startswith(out.partition("?")[0])
    assert ended("cat", out.strip())[1] == "text"
    copy = ended("load", out.strip(), "--dest", tmp_path / "copy")[1].strip()
    assert Path(copy).read_text() == "text" and copy == str(tmp_path / "copy")
    code, _, err = ended("store", file, file, "--label", "c")
    assert code == 2 and "--label is for one file" in err
    assert ended("load", "sha1://" + "0" * 40)[0] == 1


def test_options_of_a_group_and_its_commands(ended):
    code, _, err = ended("id", "--json", "export")
    assert code == 2 and "stand after its name" in err
    code, _, err = ended("lineage", "77aa", "--json", "--format", "dot")
    assert code == 2 and "choose one" in err
