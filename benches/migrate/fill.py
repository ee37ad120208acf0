"""Fills a bucket at the store, past s3veil, and checks what is in one afterwards."""

import sys
import time

from processes import Failed
from s3 import each

THREADS = 8
# So many wrong objects are named.
NAMED = 5


def say(line):
    """For whoever waits: what is measured goes to standard output."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def fill(place, bucket, objects):
    place.create(bucket)
    begun = time.monotonic()
    each(objects, lambda thing: place.store.put(bucket, thing), THREADS)
    say(f"{bucket}: {len(objects)} objects written in {time.monotonic() - begun:.0f} s")


def read_all(client, bucket, things):
    """Every object is read and compared."""
    wrong, begun = [], time.monotonic()

    def compare(thing):
        what = client.differs(bucket, thing)
        if what:
            wrong.append(f"{bucket}/{thing.key}: {what}")
            if len(wrong) >= NAMED:
                raise Failed("\n".join(wrong))

    each(things, compare, THREADS)
    if wrong:
        raise Failed("\n".join(wrong))
    say(f"{bucket}: every object read and compared in {time.monotonic() - begun:.0f} s")


def lists(place, bucket, keys, but=()):
    """The store lists these keys and no others."""
    expected, found = set(keys), {key for key, _ in place.store.listing(bucket)} - set(but)
    if expected != found:
        missing, more = (sorted(keys)[:NAMED] for keys in (expected - found, found - expected))
        raise Failed(f"{bucket}: not listed: {missing}; listed, and should not be: {more}")


def nothing_left(place, bucket):
    holds(f"{bucket}: versions under .s3veil/ and uploads under way that are left", place.left(bucket), (0, 0))


def holds(what, found, expected):
    if found != expected:
        raise Failed(f"{what}: {found}, but should be {expected}")


def kept_versions(place, bucket, versions, markers=0):
    """A bucket that keeps versions has so many of them."""
    if place.versioned:
        holds(f"{bucket}: versions and delete markers", place.store.versions(bucket), (versions, markers))
