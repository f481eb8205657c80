"""A library in a process of its environment: one workload, prepared and then repeated over a pipe.

    python -m peers_run.child LIBRARY FOLDER DATA SECONDS KIND ARGUMENTS ANSWERS

The first answer says that the workload is prepared; then each line of standard input is the number of a
turn, and each answer is one line of JSON to the file descriptor ANSWERS. What libraries print goes
nowhere near it.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peers_run.adapters import NotOffered
from peers_run.context import Context, TooSlow, Wrong
from peers_run.runs import Counter
from peers_run.together import Cluster, Contended, Many
from peers_run.workloads import Argument, Fresh, Result, Small

KINDS: dict[str, Callable[..., Any]] = {
    "small": Small,
    "fresh": Fresh,
    "argument": Argument,
    "result": Result,
    "many": Many,
    "contended": Contended,
    "cluster": Cluster,
}

_MOST_MEMORY = 6 << 30  # bytes of its own that a process may have


def _answer_to(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except NotOffered as error:
        return {"not_offered": str(error)}
    except TooSlow as error:
        return {"slow": str(error)}
    except Wrong as error:
        return {"wrong": str(error)}
    except BaseException as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        gc.collect()


def main() -> None:
    """Answer requests until there are no more."""
    name, folder, data, seconds, kind, arguments, fd = sys.argv[1:]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    os.set_inheritable(int(fd), False)  # noqa: FBT003 - a flag of the system
    requests = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    context = Context(name, folder, data, Counter(os.path.join(folder, "runs")), float(seconds))
    workload: Any = None

    def prepare() -> dict[str, Any]:
        nonlocal workload
        workload = KINDS[kind](context, *json.loads(arguments))
        return {"marks": getattr(workload, "marks", [])}

    with os.fdopen(int(fd), "w") as answers:
        answers.write(json.dumps(_answer_to(prepare)) + "\n")
        answers.flush()
        for line in requests:
            answer = _answer_to(lambda turn=int(line): {"figures": workload.turn(turn)})
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
