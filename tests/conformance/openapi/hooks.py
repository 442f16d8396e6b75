"""What schemathesis can't take from a document: rules beyond JSON Schema, and which data there are.

The names here are those that openapi.rs makes and that the documents have as examples.
"""

import re

import schemathesis
from schemathesis import GenerationMode

# MySQL's limit for family___table.
MAX_TABLE_CHARACTERS = 64
EXISTING = {"family": "shop", "table": "prices", "writer": "billing"}
CREDENTIALS = {"ctlstore-writer": "billing", "ctlstore-secret": "correct horse"}
# Nobody else is this writer, who has the same secret.
LEAVING = {"writer": "leaving"}
LONGEST_WAIT_MS = 100
# No table of the test is ever as old.
OLDEST = "10h"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Pairs become lists of either: schemathesis 4.32 turns `prefixItems` into what it then takes for no schema."""
    def without_pairs(node):
        if isinstance(node, dict):
            if "prefixItems" in node:
                node["items"] = {"anyOf": node.pop("prefixItems")}
            for value in node.values():
                without_pairs(value)
        elif isinstance(node, list):
            for value in node:
                without_pairs(value)

    without_pairs(raw_schema)


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.hook
def filter_case(context, case):
    """Bounds that count bytes, or two names together."""
    if not is_positive(case):
        return True
    path = case.path_parameters or {}
    family, table, writer = (str(path.get(name, "")) for name in ("family", "table", "writer"))
    # A table is named together with its family.
    query = case.query or {}
    if "table" in query and "family" not in query:
        return False
    secret = case.body if case.media_type == "text/plain" and isinstance(case.body, str) else ""
    return (
        len(f"{family}___{table}") <= MAX_TABLE_CHARACTERS
        and len(writer.encode()) <= 50
        and len(secret.encode()) <= 100
    )


@schemathesis.hook
def map_case(context, case):
    """Half of what is well-formed meets data that exist, and nothing waits for long."""
    headers = case.headers or {}
    wait = re.fullmatch(r"([0-9]+)(ms|s)", str(headers.get("ctlstore-wait", "")))
    if wait and (wait[2] == "s" or int(wait[1]) > LONGEST_WAIT_MS):
        headers["ctlstore-wait"] = f"{LONGEST_WAIT_MS}ms"
    # A seq that has not come is waited for, and no age is known so exactly.
    query = case.query or {}
    if re.fullmatch(r"[0-9]+", str(query.get("since", ""))):
        query["since"] = "1"
    if re.fullmatch(r"0|[0-9]+(ms|s|m|h)", str(headers.get("ctlstore-max-lag", ""))):
        headers["ctlstore-max-lag"] = OLDEST
    # The tables stay as they are, for those that come behind.
    if is_positive(case) and case.method in ("GET", "HEAD", "POST") and is_chosen(case):
        for known, given in ((EXISTING, case.path_parameters), (CREDENTIALS, headers)):
            for name in given or {}:
                if name in known:
                    given[name] = known[name]
    if is_positive(case) and case.method == "DELETE" and case.path == "/writers/{writer}" and is_chosen(case):
        case.path_parameters.update(LEAVING)
        headers["ctlstore-secret"] = CREDENTIALS["ctlstore-secret"]
    return case


def is_chosen(case):
    """The same ones in every run."""
    return sum(repr((case.path_parameters, case.body)).encode()) % 2 == 0
