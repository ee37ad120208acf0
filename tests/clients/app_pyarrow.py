"""pyarrow: a Parquet file written in parts, and columns of row groups read here and there"""

import random

import numpy
import pyarrow
import pyarrow.parquet
from pyarrow.fs import S3FileSystem

from common import ENDPOINT, KEY, SECRET, s3

ROWS, GROUP = 1_000_000, 50_000


def main(bucket, _work):
    system = S3FileSystem(
        access_key=KEY, secret_key=SECRET, endpoint_override=ENDPOINT, region="us-east-1", scheme="http",
        background_writes=True,
    )
    # Numbers without a pattern: the file is as long as they are.
    generator = numpy.random.default_rng(7)
    names = [f"column {i}" for i in range(8)]
    table = pyarrow.table({name: generator.integers(0, 2**62, ROWS) for name in names})
    pyarrow.parquet.write_table(table, f"{bucket}/folder/table.parquet", row_group_size=GROUP, filesystem=system)
    head = s3().head_object(Bucket=bucket, Key="folder/table.parquet", PartNumber=1)
    assert head["PartsCount"] > 3 and system.get_file_info(f"{bucket}/folder/table.parquet").size > 50_000_000, head

    with pyarrow.parquet.ParquetFile(f"{bucket}/folder/table.parquet", filesystem=system) as file:
        assert file.num_row_groups == ROWS // GROUP
        spot = random.Random(3)
        for _ in range(30):
            group, columns = spot.randrange(file.num_row_groups), spot.sample(names, 2)
            expected = table.select(columns).slice(group * GROUP, GROUP)
            assert file.read_row_group(group, columns=columns).equals(expected), (group, columns)
    assert pyarrow.parquet.read_table(f"{bucket}/folder", filesystem=system).equals(table)
    system.delete_dir_contents(bucket)
