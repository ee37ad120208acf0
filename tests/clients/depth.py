"""What a store can do beyond the basics, through s3veil, with boto3. depth.py PART, with STORE naming the store.

Which parts a store has is in `clients.rs`; what they are in `depth_*.py`, a function each, in a bucket of its own.
"""

import sys

import depth_encryption
import depth_forms
import depth_multipart
import depth_objects
import depth_stores
import depth_uploads
from common import s3

ROOMS = (depth_objects, depth_stores, depth_multipart, depth_uploads, depth_encryption, depth_forms)
name = sys.argv[1]
part = next(getattr(room, name) for room in ROOMS if hasattr(room, name))
client, bucket = s3(), f"depth-{name.replace('_', '-')}"
if name not in ("object_lock", "locked_uploads"):  # which a bucket has from the beginning or not at all
    client.create_bucket(Bucket=bucket)
part(client, bucket)
print(f"{name}: {part.__doc__.splitlines()[0]}")
