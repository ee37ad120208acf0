"""For clients in Rust: what S3 has and they do not.

raw.py create BUCKET        makes a bucket
raw.py sealed BUCKET ROOT   the store holds the files below ROOT, and nothing of their plaintext
raw.py remove BUCKET        removes a bucket, which must be empty in the store as well
raw.py put|get URL FILE     a presigned URL, by curl
"""

import sys

from common import fetch, files, nothing_plain, s3, stored

what, where, *rest = sys.argv[1:]
if what == "create":
    s3().create_bucket(Bucket=where)
elif what == "sealed":
    nothing_plain(where, files(rest[0]))
elif what == "remove":
    assert stored(where) == {}
    s3().delete_bucket(Bucket=where)
elif what == "put":
    with open(rest[0], "rb") as file:
        fetch(where, "PUT", file.read())
elif what == "get":
    with open(rest[0], "wb") as file:
        file.write(fetch(where))
else:
    raise SystemExit(__doc__)
