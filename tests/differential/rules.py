"""What may differ between a store and the same store behind s3veil. Each rule stands in docs/operations.md, word for word."""

import dataclasses
import typing


@dataclasses.dataclass
class Rule:
    docs: str  # a phrase of docs/operations.md
    holds: typing.Callable  # of Difference


def own_error(d):
    """s3veil itself refuses: only code and status are the store's then."""
    own = d.through.status >= 400 and d.through.header("server") is None and d.direct.header("server") is not None
    return own and d.where not in ("status", "xml /Error/Code")


def sse(d):
    return d.where.startswith("header x-amz-server-side-encryption") and not d.one


RULES = [
    Rule("errors that s3veil itself gives", own_error),
    Rule("answers for sealed objects carry `x-amz-server-side-encryption: aws:kms` and the EK", sse),
]


@dataclasses.dataclass
class Difference:
    store: str
    ask: object
    direct: object
    through: object
    where: str
    one: str
    other: str


def of(difference):
    return next((rule for rule in RULES if rule.holds(difference)), None)
