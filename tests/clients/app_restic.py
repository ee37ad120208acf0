"""restic: two backups, every byte checked, restored, pruned, checked again"""

import os

from common import ENDPOINT, KEY, SECRET, files, run, same, tree
from depth_multipart import MIB, noise


def main(bucket, work):
    env = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
        "RESTIC_REPOSITORY": f"s3:{ENDPOINT}/{bucket}/backup", "RESTIC_PASSWORD": "p", "RESTIC_CACHE_DIR": f"{work}/cache",
    }

    def restic(*command):
        return run("restic", *command, **env)

    first = {"large": noise(1, 40 * MIB + 7), **{f"small/{i}": noise(i, 1000 * i) for i in range(40)}}
    second = first | {"large": first["large"][: 30 * MIB] + noise(2, 5 * MIB), "small/3": b"other"}
    restic("init")
    for bodies in (first, second):
        tree(f"{work}/tree", bodies)
        restic("backup", "--pack-size", "16", f"{work}/tree")
    restic("check", "--read-data")
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")
    restic("restore", "latest", "--target", f"{work}/restored")
    same(files(f"{work}/restored{os.path.abspath(work)}/tree"), second, "restored")
