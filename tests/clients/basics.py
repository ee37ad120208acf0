"""What every client must find to be as it is without s3veil. basics.py CLIENT

The client is `client_CLIENT.py`: a class `Client(work, secret)` whose methods do one thing each, as that client does it.
What a client can't do has no method there, and is named as left out.
"""

import importlib
import os
import sys
import tempfile

from common import BODIES, SECRET, Failed, fetch, files, listed, nothing_plain, s3, same, sizes, stored, tree

TYPE, METADATA = "text/x-test", {"color": "blue"}
BIG = BODIES["big.bin"]
RANGES = {
    "0-0": BIG[:1],
    "65530-131100": BIG[65530:131101],
    "131072-196607": BIG[131072:196608],
    "100000-": BIG[100000:],
    "-7": BIG[-7:],
    "-65540": BIG[-65540:],
    "300000-999999": BIG[300000:],
}


def upload(client, bucket, work):
    tree(f"{work}/up", BODIES)
    client.upload(bucket, f"{work}/up", TYPE, METADATA)
    nothing_plain(bucket, BODIES)


def download(client, bucket, work):
    os.makedirs(f"{work}/down")
    client.download(bucket, f"{work}/down")
    same(files(f"{work}/down"), BODIES, "downloaded")


def listing(client, bucket, _work):
    assert client.listing(bucket) == sizes(BODIES), client.listing(bucket)


def head(client, bucket, _work):
    for key in ("big.bin", "dir/über %41 chunk"):
        size, kind, metadata = client.head(bucket, key)
        assert (size, kind) == (len(BODIES[key]), TYPE), (key, size, kind)
        assert metadata.items() >= METADATA.items(), metadata
        assert not any("s3veil" in name.lower() for name in metadata), f"the envelope is shown: {metadata}"


def ranges(client, bucket, _work):
    for spec in client.RANGES or RANGES:
        assert client.ranges(bucket, "big.bin", spec) == RANGES[spec], spec


def sync(client, bucket, work):
    """There and back, each twice: the second has nothing to do, and one changed file is one transfer."""
    bodies = {f"deeper/{key}": body for key, body in BODIES.items()}
    root, back = f"{work}/sync", f"{work}/back"
    tree(root, bodies)
    os.makedirs(back)
    remote = f"{bucket}/synced"
    for source, target in [((root, None), (None, remote)), ((None, remote), (back, None))]:
        assert len(client.sync(*source, *target)) == len(bodies)
        again = client.sync(*source, *target)
        assert again == [], f"the second sync transfers {again}"
    same(files(back), bodies, "synced back")
    changed = {"deeper/one": b"longer now"}
    tree(root, changed)
    assert len(client.sync(root, None, None, remote)) == 1
    everything = BODIES | {f"synced/{key}": body for key, body in (bodies | changed).items()}
    assert listed(bucket) == sizes(everything)
    nothing_plain(bucket, everything)
    client.delete_many(bucket, [key for key in everything if key not in BODIES])
    assert listed(bucket) == sizes(BODIES)


def presigned_get(client, bucket, _work):
    for key in ("big.bin", "dir/a chunk +", "dir/über %41 chunk"):
        assert fetch(client.presigned_get(bucket, key)) == BODIES[key], key


def presigned_put(client, bucket, _work):
    body = BIG[::-1]
    fetch(client.presigned_put(bucket, "presigned +"), "PUT", body)
    assert s3().get_object(Bucket=bucket, Key="presigned +")["Body"].read() == body
    nothing_plain(bucket, BODIES | {"presigned +": body})
    s3().delete_object(Bucket=bucket, Key="presigned +")


def wrong_secret(client, bucket, work):
    tree(f"{work}/wrong", {"wrong": BIG})
    stranger = type(client)(f"{work}/wrong-settings", "not" + SECRET)
    for what in (lambda: stranger.upload(bucket, f"{work}/wrong", TYPE, METADATA), lambda: stranger.listing(bucket)):
        try:
            what()
        except (Failed, *client.ERRORS) as error:
            said = str(error)
            assert any(word in said for word in ("SignatureDoesNotMatch", "403", "signature")), said
        else:
            raise AssertionError("a wrong secret is accepted")
    assert "wrong" not in stored(bucket)


def delete(client, bucket, _work):
    client.delete(bucket, "one")
    rest = [key for key in BODIES if key != "one"]
    assert listed(bucket).keys() == set(rest)
    client.delete_many(bucket, rest)
    assert listed(bucket) == {} and stored(bucket) == {}


def main(name):
    bucket = f"basics-{name.replace('_', '-')}"
    with tempfile.TemporaryDirectory() as work:
        client = importlib.import_module(f"client_{name}").Client(f"{work}/settings", SECRET)
        client.create(bucket)
        steps = [upload, download, listing, head, ranges, sync, presigned_get, presigned_put, wrong_secret, delete]
        done = [step for step in steps if step in (wrong_secret,) or hasattr(client, step.__name__)]
        for step in done:
            try:
                step(client, bucket, work)
            except BaseException:
                print(f"{name}: {step.__name__}", file=sys.stderr)
                raise
        client.remove(bucket)
        assert bucket not in [entry["Name"] for entry in s3().list_buckets()["Buckets"]]
    left = [step.__name__ for step in steps if step not in done]
    names = ", ".join(step.__name__ for step in done)
    print(f"{name}: {names}{'; it has no ' + ', '.join(left) if left else ''}")


main(sys.argv[1])
