"""What is measured while nobody else writes. Each phase checks what it left behind, out of its time."""

from fill import fill, holds, kept_versions, lists, nothing_left, read_all, say
from report import Row

# What a rclone crypt remote adds: to each object, and to each block of it.
CRYPT_HEAD, CRYPT_BLOCK, CRYPT_TAG = 32, 65536, 16
BUCKET = "quiet"
# What must have been done before.
NEEDS = {"verify": "migrate", "rotate": "migrate", "decrypt": "migrate"}


class Quiet:
    """On one bucket, in this order; `decrypt` leaves it as it was filled."""

    PHASES = ("look", "rclone", "crypt", "migrate", "verify", "rotate", "decrypt")

    def __init__(self, place, objects, report):
        self.place, self.objects, self.report = place, objects, report
        self.all = len(objects)
        # How often each object has been written so far.
        self.written = 1

    def run(self, phases):
        fill(self.place, BUCKET, self.objects)
        for phase in self.PHASES:
            if phase in phases:
                say(phase)
                getattr(self, phase)()
        self.place.remove(BUCKET)

    def look(self):
        """The dry run first: what is plain afterwards it has not touched."""
        dry = self.place.s3veil("migrate", f"s3://{BUCKET}").good()
        holds("to do, by the dry run", dry.count("to do with --apply"), self.all)
        stat = self.place.s3veil("stat", f"s3://{BUCKET}").good()
        holds("plain, by stat", stat.count("plain"), self.all)
        nothing_left(self.place, BUCKET)
        self.report.add(Row.of("stat", stat, self.all))
        self.report.add(Row.of("migrate, dry run", dry, self.all))

    def rclone(self):
        self._rclone("rclone copy", "to", lambda length: length)

    def crypt(self):
        self._rclone("rclone copy to crypt", "crypt", lambda length: CRYPT_HEAD + length + -(-length // CRYPT_BLOCK) * CRYPT_TAG)

    def _rclone(self, name, remote, stored):
        self.place.create("copies")
        for half, count, size in self.objects.halves():
            run, copied = self.place.rclone(f"{BUCKET}/{half}", f"{remote}:copies/{half}")
            holds(f"{name}: objects", copied, count)
            self.report.add(Row.of(name, run, count, size, half))
        lengths = sorted(length for _, length in self.place.store.listing("copies"))
        holds(f"{name}: lengths", lengths == sorted(stored(thing.length) for thing in self.objects), True)
        self.place.remove("copies")

    def migrate(self):
        self._halves("migrate", ["--apply"], "sealed")
        self._after("sealed under EK 'main'", self.place.proxy)

    def verify(self):
        self._halves("verify", [], "good")

    def rotate(self):
        # What the report afterwards would count, `stat` does out of its time.
        self._halves("rotate", ["--to", "next", "--apply", "--no-report"], "rotated", bodies=False)
        self._after("sealed under EK 'next'", self.place.proxy)

    def decrypt(self):
        self._halves("migrate", ["--decrypt", "--apply"], "opened", name="migrate --decrypt", passing=True)
        self._after("plain", self.place.store)

    def _halves(self, command, arguments, what, name=None, bodies=True, passing=False):
        for half, count, size in self.objects.halves():
            run = self.place.s3veil(command, f"s3://{BUCKET}/{half}/", *arguments, passing=passing).good()
            holds(f"{run.name}: {what}", run.count(what), count)
            self.report.add(Row.of(name or command, run, count, size if bodies else None, half))

    def _after(self, state, client):
        """Everything has been written once more, reads through this client as it did, and nothing else is there."""
        self.written += 1
        stat = self.place.s3veil("stat", f"s3://{BUCKET}").good()
        holds(f"{state}, by stat", stat.count(state), self.all)
        nothing_left(self.place, BUCKET)
        lists(self.place, BUCKET, (thing.key for thing in self.objects))
        kept_versions(self.place, BUCKET, self.written * self.all)
        read_all(client, BUCKET, self.objects)
        if self.place.versioned:
            self.report.note(f"{self.written * self.all} versions once all are {state}")
