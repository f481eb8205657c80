"""What of a zone is not used, because whoever can write there could have made it up."""

from __future__ import annotations

from kachery_store.errors import DigestMismatch, StoreTooNew

from .record import Record, wrong_field


def objection(folder: str, name: str, data: bytes, *, damaged_too: bool = False) -> str | None:
    """What speaks against a ref of a zone: loading a pickle executes what it says.

    What is damaged is taken, because whoever reads it sets it aside; unless it is `damaged_too`.
    """
    if folder != "jobs":
        return None
    try:
        record = Record.of_this_store(data, name)
    except StoreTooNew as error:
        return str(error)
    except DigestMismatch as error:
        return str(error) if damaged_too else None
    wrong = wrong_field(record)
    if wrong is not None:
        return f"its {wrong} is not one"
    if record.result.pickles:
        return (
            f"the result of {record.task} has a pickle in it, and nothing tells yet who made it;"
            " the job is computed here"
        )
    return None
