"""Two kinds of function that are not tasks: one asks the outside world, one changes it.

    python examples/05_query_and_action.py

The outside world (lab_server.py) tells how a microscope is calibrated, and takes orders of spare
parts. It changes its answers, takes an order of somebody who is killed meanwhile, and goes away.
"""

import json
import multiprocessing
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

from lab_server import Lab
from own_store import own_store

import kachery


@kachery.query(ignore=("server",))  # where one asks is no part of the question
def calibration(microscope, *, server):
    """Micrometers for a pixel. The answer may change, so every call asks again."""
    with urllib.request.urlopen(f"{server}/{microscope}", timeout=10) as answer:
        return json.load(answer)


@kachery.task
def area(pixels, scale):
    """An area in square micrometers: a task, because it depends on nothing but its arguments."""
    return pixels * scale**2


@kachery.action(version="1", ignore=("server",))  # with a version, edited code is not a new order
def order(part, *, server):
    """Order a spare part. Once is right, twice is expensive."""
    urllib.request.urlopen(f"{server}/orders", data=part.encode(), timeout=10).close()


def main():
    """Ask and order, in good times and in bad ones."""
    own_store("query_and_action")
    lab = Lab()
    ask(lab)
    order_parts(lab)


def ask(lab):
    """A query asks each time. When nobody answers, the last good answer is served."""
    with lab.server() as server:
        print("calibration:", calibration("leica", server=server))
        lab.calibrations["leica"] = 0.26
        print("after a repair:", calibration("leica", server=server))
        assert area(1000, calibration.job("leica", server=server)) == 1000 * 0.26**2

    print("the server is gone:")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = calibration("leica", server=server)
    print(f"    {caught[0].category.__name__}: {caught[0].message}\n    {answer}")
    assert caught[0].category is kachery.StaleResultWarning
    assert answer == 0.26
    history = [one.value for one in calibration.history("leica", server=server)]
    print("all answers:", history)
    assert history == [0.25, 0.26, 0.26], "the last one went to `area`"


def order_parts(lab):
    """An action is started once, whatever happens."""
    with lab.server() as server:
        order("objective", server=server)
        order("objective", server=server)
        print("\nordered twice:", lab.orders)
        assert lab.orders == ["objective"]

        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=order_a_lamp, args=(server,))
        lab.victims["lamp"] = process
        process.start()
        process.join()
        print("another process was killed in the middle:", lab.orders)
        assert lab.orders == ["objective", "lamp"]

        try:
            order("lamp", server=server)
        except kachery.OutcomeUnknown as error:
            print(f"ordered again:\n    OutcomeUnknown: {error}")
        lamp = order.job("lamp", server=server)
        assert lamp.status == "unknown"

        print("\nSomebody has asked the shop: the lamp is on its way.")
        command = ["kachery", "resolve", lamp.id[:12], "--done"]
        print("$", *command, flush=True)
        subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], check=True)
        order("lamp", server=server)
        print("ordered again:", lab.orders)
        assert lab.orders == ["objective", "lamp"]


def order_a_lamp(server):
    """What another process does, as far as it comes."""
    order("lamp", server=server)


if __name__ == "__main__":
    main()
