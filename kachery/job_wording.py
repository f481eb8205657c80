"""How jobs and failures are told: moments, sizes, errors; and in JSON."""

from __future__ import annotations

import datetime
from typing import Any

from kachery_tasks.failures import Failure
from kachery_tasks.record import Record

_LONGEST_MESSAGE = 60  # characters of an error in a list


def as_json(one: Record | Failure) -> dict[str, Any]:
    """All that is known of one, with the names that JSON has everywhere."""
    told = {
        **one._asdict(),
        "arguments": [
            {"name": name, "address": address.hex() or None, "description": text}
            for name, address, text in one.arguments
        ],
    }
    if isinstance(one, Failure):
        return {**told, "status": "failed"}
    result = one.result
    told["inputs"] = [{"name": name, "job": job_id} for name, job_id in one.inputs]
    told["reads"] = [
        {"kind": kind, "name": name, "address": address.hex() or None}
        for kind, name, address in one.reads
    ]
    told["environment"] = one.environment.hex() or None
    told["values"] = {name: encoding.hex() for name, encoding in one.values}
    told["result"] = {
        "address": result.address.hex(),
        "size": result.size,
        "type": result.type,
        "inline": result.inline is not None,
        "opaque": len(result.pickles),
    }
    return told


def error_of(failure: Failure) -> str:
    """What was raised, in a line."""
    message = " ".join(failure.message.split())
    cut = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "..."
    return f"{failure.error}: {cut}" if cut else failure.error


def when(one: Record | Failure) -> str:
    """When it was started."""
    moment = datetime.datetime.fromtimestamp(one.started).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def size_of(size: int) -> str:
    """A number of bytes."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
