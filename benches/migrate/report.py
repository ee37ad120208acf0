"""What was measured: a table for people, as it comes, and JSON in the end."""

import dataclasses
import json
import os
import pathlib

HEAD = """\
| | | objects | seconds | objects/s | MB/s | CPU s | peak MiB | store's CPU s | of rclone | of rclone crypt |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
# Rows that do what `rclone copy` does, with what it takes to seal or open: their speed is set beside its.
BESIDE = ("rclone copy to crypt", "migrate", "migrate --decrypt")


@dataclasses.dataclass
class Row:
    """`bytes` are those of the objects, where bodies were moved or read."""

    name: str
    half: str
    objects: int
    bytes: int | None
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    store_cpu_seconds: float

    @classmethod
    def of(cls, name, run, objects, size=None, half="all"):
        return cls(name, half, objects, size, run.seconds, run.cpu, run.peak, run.store_cpu)


class Report:
    """Rows and notes in the order of their coming."""

    def __init__(self, about):
        self.about, self.rows, self.notes = about, [], []

    def begin(self):
        versions, objects = self.about["versions"], self.about["objects"]
        print(
            f"s3veil {versions['s3veil']}, MinIO {versions['minio']}, rclone {versions['rclone']}, "
            f"{self.about['cores']} cores of {self.about['processor']}. "
            f"{objects['small']} objects of 1 to 4 KiB ({objects['small_bytes'] / 1e6:.0f} MB), "
            f"{objects['large']} of {objects['large_mib']} MiB ({objects['large_bytes'] / 1e6:.0f} MB), "
            f"versioning {'on' if self.about['versioned'] else 'off'}, seed {self.about['seed']}.\n\n{HEAD}", flush=True,
        )

    def add(self, row):
        self.rows.append(row)
        cells = [
            row.name, row.half, row.objects, f"{row.seconds:.1f}", f"{row.objects / row.seconds:.0f}",
            "" if row.bytes is None else f"{row.bytes / row.seconds / 1e6:.1f}", f"{row.cpu_seconds:.1f}",
            f"{row.peak_bytes / 2**20:.0f}", f"{row.store_cpu_seconds:.1f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in self.ratios(row).values()),
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)

    def ratios(self, row):
        """Its speed by that of rclone with the same objects in this run."""
        found = {}
        for other in "rclone copy", "rclone copy to crypt":
            base = next((one for one in self.rows if (one.name, one.half) == (other, row.half)), None)
            beside = base is not None and row.name in BESIDE and row is not base
            found[other] = base.seconds / row.seconds if beside else None
        return found

    def seconds(self, name):
        """How long this took on all of the objects, if it was measured."""
        return sum(row.seconds for row in self.rows if row.name == name)

    def note(self, line):
        self.notes.append(line)

    def end(self, failure=None):
        if self.notes:
            print("\n" + "\n".join(f"- {line}" for line in self.notes), flush=True)
        rows = [dataclasses.asdict(row) | {"speed_of": self.ratios(row)} for row in self.rows]
        return json.dumps({**self.about, "rows": rows, "notes": self.notes, "failure": failure}, indent=1) + "\n"


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown processor")
    return {"cores": len(os.sched_getaffinity(0)), "processor": model}
