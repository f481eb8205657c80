"""Run by a Python that has rocrate-validator: checks a crate against a profile, without a network.

The validator fetches the JSON-LD contexts that a crate names; here they come from a file instead.
Arguments: folder, profile, severity, file of contexts by URL. Prints one issue on each line.
"""

import json
import sys

import rdflib.plugins.parsers.jsonld as parser
from rdflib.plugins.shared.jsonld import context, util
from rocrate_validator import models, services
from rocrate_validator.utils import http

folder, profile, severity, contexts = sys.argv[1:]
with open(contexts) as file:
    contexts = json.load(file)
fetch = util.source_to_json


def source_to_json(source, *args, **kwargs):
    return (contexts[source], None) if isinstance(source, str) else fetch(source, *args, **kwargs)


class Response:
    status_code, ok, headers = 200, True, {"Content-Type": "application/ld+json"}

    def __init__(self, url):
        self.url, self.text = url, json.dumps(contexts[url])

    def json(self):
        return json.loads(self.text)

    def raise_for_status(self):
        """It was there."""


settings = services.ValidationSettings(
    rocrate_uri=folder,
    profile_identifier=profile,
    requirement_severity=models.Severity[severity],
)
util.source_to_json = context.source_to_json = parser.source_to_json = source_to_json
http.HttpRequester.get = http.HttpRequester.head = lambda self, url, **_: Response(url)
result = services.validate(settings)
for issue in result.get_issues(models.Severity[severity]):
    print(issue.severity.name, issue.check.identifier, issue.message)
print("checked")
