"""Running a command: its exit code, and errors as one sentence on standard error."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from io import StringIO

import click

from kachery_store.errors import KacheryError
from kachery_store.saying import DEBUG, clean_lines, is_debugging

SETTINGS = {"help_option_names": ["-h", "--help"]}

DONE, FAILED, USAGE, BUG, INTERRUPTED = 0, 1, 2, 70, 130
EXIT_CODES = {
    DONE: "done, and all is well",
    FAILED: "an error, said on standard error; or what was checked is not as it should be",
    USAGE: "wrong usage; of reproduce: none could be run again",
    BUG: "an error inside of kachery: please report it",
    INTERRUPTED: "interrupted with Ctrl-C",
}


def run_command(command: click.Command) -> None:
    """Run a command, and end with one of EXIT_CODES; tracebacks are shown only to debug."""
    warnings.showwarning = lambda message, *_: _say("kachery:", message, "yellow")
    has_option = any("--debug" in one.opts for one in command.params)
    sys.exit(_exit_code(command, "--debug" if has_option else f"{DEBUG}=1"))


def _exit_code(command: click.Command, debug: str) -> int:
    """Run it; `debug` is how users ask for tracebacks."""
    try:
        code = command.main(prog_name=os.path.basename(sys.argv[0]), standalone_mode=False)
    except BrokenPipeError:  # `kachery jobs | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KacheryError, OSError) as error:
        say_error(error)
        return FAILED
    except click.Abort as error:
        return _aborted(error, debug)
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is, users are not to see a traceback
        return _report_bug(error, debug)
    return code if isinstance(code, int) else DONE


def _show(error: click.ClickException) -> None:
    """What click says of wrong usage."""
    text = StringIO()
    error.show(text)
    red = re.sub("^Error:", click.style("Error:", fg="red"), text.getvalue(), flags=re.MULTILINE)
    click.echo(red, err=True, nl=False, color=colours())


def _aborted(error: click.Abort, debug: str) -> int:
    """What click makes of Ctrl-C, of an answer to a question, and of the end of input."""
    if isinstance(error.__context__, KeyboardInterrupt):
        _trace(error)
        _say("kachery:", "interrupted", "red")
        return INTERRUPTED
    if isinstance(error.__cause__, EOFError):  # not from a question: click hides that one
        return _report_bug(error.__cause__, debug)
    _say("kachery:", "nothing was done", "red")
    return FAILED


def _report_bug(error: Exception, debug: str) -> int:
    _trace(error)
    next_step = "please report it"
    if not is_debugging():
        next_step = f"run again with {debug} for the traceback, and {next_step}"
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    _say("kachery: internal error:", f"{what}; {next_step}", "red")
    return BUG


def say_error(error: Exception) -> None:
    """Say what went wrong; to debug also where."""
    _trace(error)
    _say("kachery:", error, "red")


def start_debugging() -> None:
    """Show tracebacks from now on, also in processes that this one starts."""
    os.environ[DEBUG] = "1"


def colours() -> bool | None:
    """Whether to write in colour; None: on terminals (no-color.org, bixense.com/clicolors)."""
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(one, "") not in ("", "0") for one in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        return False
    return None


def _trace(error: BaseException) -> None:
    if is_debugging():
        text = "".join(traceback.format_exception(error))
        click.echo(clean_lines(text.rstrip()), err=True)


def _say(who: str, what: object, colour: str) -> None:
    text = f"{click.style(who, fg=colour)} {clean_lines(str(what))}"
    click.echo(text, err=True, color=colours())
