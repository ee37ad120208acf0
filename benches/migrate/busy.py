"""What must hold while others are at work: clients that write, and whoever kills."""

import bisect
import hashlib
import random
import threading

from fill import fill, holds, kept_versions, lists, nothing_left, read_all
from processes import Failed
from report import Row

WRITERS = 4
# One key in so many is a writer's.
SHARE = 10
# How many of those on either side of where the walk is are near it.
NEAR = 3
KILLS = 20
# Where s3veil keeps what it must know of an upload.
RECORDS = ".s3veil/uploads/"
# Objects read after each kill.
LOOKS = 20
# What an object may take, before it has been seen: seconds, and bytes in a second. Only the shape of it counts.
EACH, RATE = 1 / 400, 150e6


def part_mib(objects):
    """Parts of which the large ones have several."""
    return max(5, (objects.long >> 20) // 4)


def reached(place, bucket, objects, known=0, step=1, first=0):
    """How many of every `step`-th key from `first` on are sealed. The walk goes by the order of keys; so many are known to be."""
    places, width = range(first, len(objects), step), 1

    def is_plain(at):
        return not place.store.is_sealed(bucket, objects.key(at))

    while known + width <= len(places) and not is_plain(places[known + width - 1]):
        known, width = known + width, 2 * width
    return bisect.bisect_left(places, True, known, min(known + width, len(places)), key=is_plain)


class Writers:
    """Threads that write, overwrite and delete their own keys through the proxy, most of them where the walk is."""

    BUCKET = "writers"

    def __init__(self, place, objects, report, seed):
        self.place, self.objects, self.report, self.seed = place, objects, report, seed
        # Keys of writers, by their places among all.
        self.places = range(0, len(objects), SHARE)
        self.front, self.over = 0, threading.Event()
        # What each place holds by the last answer: a turn, or None where it is deleted. 0 is how it was filled.
        self.told = [0] * len(self.places)
        self.puts = [0] * WRITERS
        self.deletes = [0] * WRITERS
        self.failures = []

    def run(self):
        fill(self.place, self.BUCKET, self.objects)
        # What it tries the store with is refused by design.
        before = self.place.refused()
        self.place.s3veil("migrate", f"s3://{self.BUCKET}/none/", "--apply").good()
        refused = 2 * self.place.refused() - before
        threads = [threading.Thread(target=self._guarded, args=(self._write, number), daemon=True) for number in range(WRITERS)]
        threads.append(threading.Thread(target=self._guarded, args=(self._scout,), daemon=True))
        for one in threads:
            one.start()
        try:
            run = self.place.s3veil("migrate", f"s3://{self.BUCKET}", "--apply", f"--part-mib={part_mib(self.objects)}")
        finally:
            self.over.set()
            for one in threads:
                one.join()
        if self.failures:
            raise self.failures[0]
        run.good()
        refused = self.place.refused() - refused
        self.report.add(Row.of("migrate, clients writing", run, len(self.objects), sum(self.objects.bytes.values())))
        self._check(run, refused)
        self.place.remove(self.BUCKET)

    def _guarded(self, work, *more):
        try:
            work(*more)
        except Exception as why:  # Whatever it is: without this thread nothing is shown.
            self.failures.append(why if isinstance(why, Failed) else Failed(f"a writer: {type(why).__name__}: {why}"))

    def _scout(self):
        """Where the walk is, by keys that no writer touches."""
        while not self.over.wait(0.1):
            self.front = reached(self.place, self.BUCKET, self.objects, self.front, SHARE, SHARE // 2)

    def _write(self, number):
        chance = random.Random(f"{self.seed} writer {number}")
        own = range(number, len(self.places), WRITERS)
        turn = number
        while own and not self.over.is_set() and not self.failures:
            turn += WRITERS
            if chance.random() < 0.75:
                near = (self.front + chance.randrange(-NEAR, NEAR + 1)) // WRITERS
                at = own[min(max(near, 0), len(own) - 1)]
            else:
                at = chance.choice(own)
            thing = self.objects.written(self.places[at], turn)
            if self.told[at] is not None and chance.random() < 0.2:
                self.place.proxy.delete(self.BUCKET, thing.key)
                self.deletes[number] += 1
                self.told[at] = None
            else:
                self.place.proxy.put(self.BUCKET, thing)
                self.puts[number] += 1
                self.told[at] = turn

    def _check(self, run, refused):
        gone, things = [], []
        for at in range(len(self.objects)):
            turn = self.told[at // SHARE] if at % SHARE == 0 else 0
            if turn is None:
                gone.append(self.objects.key(at))
            else:
                things.append(self.objects.written(at, turn) if turn else self.objects[at])
        puts, deletes = sum(self.puts), sum(self.deletes)
        if not puts or not deletes:
            raise Failed(f"the writers were not at work: {puts} writes, {deletes} deletes")
        for key in gone:
            if not self.place.proxy.is_gone(self.BUCKET, key):
                raise Failed(f"{self.BUCKET}/{key} was deleted, and is there")
        lists(self.place, self.BUCKET, (thing.key for thing in things))
        nothing_left(self.place, self.BUCKET)
        kept_versions(self.place, self.BUCKET, len(self.objects) + puts + run.count("sealed"), deletes)
        read_all(self.place.proxy, self.BUCKET, things)
        holds("good, by verify", self.place.s3veil("verify", f"s3://{self.BUCKET}").good().count("good"), len(things))
        self.report.note(
            f"clients writing: {puts} writes and {deletes} deletes were acknowledged, of {len(self.places)} keys; "
            f"migrate sealed {run.count('sealed')} objects; the store refused {refused} of its writes, as a client was quicker"
        )


class Kills:
    """Killed again and again, and run to its end at last."""

    BUCKET = "kills"

    def __init__(self, place, objects, report, seed):
        self.place, self.objects, self.report = place, objects, report
        self.chance = random.Random(f"{seed} kills")
        self.migrate = ["migrate", f"s3://{self.BUCKET}", "--apply", f"--part-mib={part_mib(objects)}"]

    def run(self):
        fill(self.place, self.BUCKET, self.objects)
        # How long it takes until it begins: on a prefix that nothing is under.
        start = self.place.s3veil("migrate", f"s3://{self.BUCKET}/none/", "--apply").good().seconds
        runs, met, with_uploads, front, spent, scale = [], 0, 0, 0, 0.0, 1.0
        for number in range(KILLS):
            # Spread over what is left, so that they meet all of it at whatever speed.
            left = (self._cost(len(self.objects)) - self._cost(front)) * scale
            delay = self.chance.uniform(0, start + 2 * left / (KILLS + 1 - number))
            runs.append(self.place.s3veil(*self.migrate, kill_after=delay))
            front = reached(self.place, self.BUCKET, self.objects, front)
            met += runs[-1].code < 0 and front < len(self.objects)
            with_uploads += any(parts for _, parts in self.place.uploads())
            spent += max(0.0, runs[-1].seconds - start)
            if front:
                scale = spent / self._cost(front)
            self._look()
        before_last = front
        runs.append(self.place.s3veil(*self.migrate).good())
        if met < KILLS // 2:
            raise Failed(f"{met} of {KILLS} kills met it at work: more objects, or another --seed")
        self._nothing_lost()
        went_on = sum(run.notes("goes on behind") for run in runs)
        self.report.add(Row(
            "migrate, killed", "all", len(self.objects), sum(self.objects.bytes.values()), sum(run.seconds for run in runs),
            sum(run.cpu for run in runs), max(run.peak for run in runs), sum(run.store_cpu for run in runs),
        ))
        self.report.note(
            f"killed: {KILLS} SIGKILLs, {met} of them at work, {with_uploads} with parts of uploads at the store; "
            f"{went_on} runs of {len(runs)} went on behind a key; "
            f"the last one had {len(self.objects) - before_last} objects to seal; {self._left()} empty uploads are left"
        )
        self.place.remove(self.BUCKET)

    def _cost(self, count):
        """Of the first so many objects."""
        large = min(count, self.objects.large)
        return large * self.objects.long / RATE + count * EACH

    def _look(self):
        """Whoever reads in between finds each object whole."""
        for _ in range(LOOKS):
            thing = self.objects[self.chance.randrange(len(self.objects))]
            what = self.place.proxy.differs(self.BUCKET, thing)
            if what:
                raise Failed(f"{self.BUCKET}/{thing.key} after a kill: {what}")

    def _nothing_lost(self):
        read_all(self.place.proxy, self.BUCKET, self.objects)
        good = self.place.s3veil("verify", f"s3://{self.BUCKET}").good().count("good")
        holds("good, by verify", good, len(self.objects))

    def _left(self):
        """A kill between an upload's beginning and its being written down leaves it, and its record: that is all."""
        kept, _ = self.place.left(self.BUCKET)
        own = [key for key, _ in self.place.store.listing(self.BUCKET, ".s3veil/")]
        records = [key for key in own if key.startswith(RECORDS)]
        large = map(self.objects.key, range(self.objects.large))
        keys = {hashlib.sha256(f"{self.BUCKET}/{key}".encode()).hexdigest(): key for key in large}
        uploads = [(keys.get(name, "what is no client's"), parts) for name, parts in self.place.uploads()]
        if kept > len(records) or len(records) > len(uploads) or any(parts for _, parts in uploads):
            raise Failed(f"{self.BUCKET}: left are uploads, with so many parts: {uploads}; {kept} versions under .s3veil/: {own}")
        lists(self.place, self.BUCKET, (thing.key for thing in self.objects), records)
        kept_versions(self.place, self.BUCKET, 2 * len(self.objects) + kept)
        return len(uploads)
