"""A lineage as JSON (docs/formats/lineage.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .model import JobNode, Lineage

VERSION = 1


def to_json(lineage: Lineage, also: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """The text, which is the same for the same lineage. `also`: others that made the same; see graph."""
    told = {
        "kachery lineage": VERSION,
        "about": lineage.about,
        "direction": "up" if lineage.up else "down",
        "asked": list(lineage.asked),
        "jobs": [_job(node, (also or {}).get(name, ())) for name, node in lineage.jobs.items()],
        "inputs": [one._asdict() for one in lineage.inputs.values()],
        "links": [one._asdict() for one in lineage.links],
    }
    return json.dumps(told, indent=1, ensure_ascii=True) + "\n"


def _job(node: JobNode, also: tuple[str, ...]) -> dict[str, Any]:
    record = node.record
    if record is None:
        return {"id": node.job_id, "gone": True}
    return {
        "id": node.job_id,
        "kind": record.kind,
        "task": record.task,
        "version": record.version,
        "fingerprint": record.fingerprint,
        "status": record.status,
        "started": record.started,
        "seconds": record.seconds,
        "host": record.host,
        "user": record.user,
        "python": record.python,
        "kachery": record.kachery,
        "arguments": [
            {"name": name, "address": address.hex() or None, "summary": summary}
            for name, address, summary in record.arguments
        ],
        "result": {
            "address": record.result.address.hex(),
            "type": record.result.type,
            "size": record.result.size,
        },
        "environment": record.environment.hex() or None,
        "signers": list(node.signers),
        "also_made_by": list(also),
    }
