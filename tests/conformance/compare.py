"""A suite direct and through s3veil: what differs, whether it stays so, and whether it is explained."""

import dataclasses
import pathlib
import re
import tomllib

from processes import Failed

HERE = pathlib.Path(__file__).resolve().parent
OPERATIONS = HERE.parents[1] / "docs/operations.md"

# How often a test that differed is run again on each side: stores and suites have tests that fail now and then.
AGAIN = 2


@dataclasses.dataclass
class Side:
    """The runs of one test on one side."""

    runs: list

    @property
    def passed(self):
        return sum(run.passed for run in self.runs)

    @property
    def failed(self):
        return len(self.runs) - self.passed

    @property
    def why(self):
        return next((run.why for run in self.runs if not run.passed), "")


@dataclasses.dataclass
class Difference:
    test: str
    direct: Side
    through: Side

    @property
    def lost(self):
        """Passes direct and fails through: more often than not, on both sides."""
        return self.direct.passed > self.direct.failed and self.through.failed > self.through.passed

    @property
    def gained(self):
        return self.direct.failed > self.direct.passed and self.through.passed > self.through.failed

    def __str__(self):
        runs = len(self.direct.runs)
        return f"{self.test} (passed {self.direct.passed} of {runs} direct, {self.through.passed} of {runs} through)"


class Comparison:
    def __init__(self, suite, store, direct, through):
        self.suite, self.store, self.direct, self.through = suite, store, direct, through
        if not direct or direct.keys() != through.keys():
            odd = sorted(direct.keys() ^ through.keys())
            raise Failed(f"{len(direct)} tests ran direct and {len(through)} through s3veil; on one side only: {odd[:20]}")
        self.differences = [
            Difference(test, Side([outcome]), Side([through[test]]))
            for test, outcome in direct.items()
            if outcome.passed != through[test].passed
        ]

    def again(self, run_direct, run_through):
        """Runs what was lost again, one test at a time: it counts only if it stays. What was gained is good news at once."""
        lost = [difference for difference in self.differences if difference.lost]
        names = [difference.test for difference in lost]
        for _ in range(AGAIN if names else 0):
            for run, side in (run_direct, "direct"), (run_through, "through"):
                outcomes = run(names)
                for difference in lost:
                    if difference.test not in outcomes:
                        raise Failed(f"{difference.test} was not run again")
                    getattr(difference, side).runs.append(outcomes[difference.test])

    @property
    def lost(self):
        return [difference for difference in self.differences if difference.lost]

    @property
    def gained(self):
        return [difference for difference in self.differences if difference.gained]

    @property
    def unsteady(self):
        return [difference for difference in self.differences if not difference.lost and not difference.gained]

    def verdict(self, explained):
        """What is wrong: a loss without an explanation, and an explanation without a loss."""
        reasons = explained.of(self.suite, self.store)
        differing = {difference.test for difference in self.differences}
        wrong = [f"not explained: {lost}\n{indent(lost.through.why)}" for lost in self.lost if lost.test not in reasons]
        for test in reasons:
            # Only what both sides pass at once says so: what a store does not pass today says nothing.
            if test in self.direct and test not in differing and self.direct[test].passed:
                wrong.append(f"explained, but passes through s3veil: {test}")
        return wrong

    def report(self, explained):
        reasons = explained.of(self.suite, self.store)
        passed = lambda outcomes: sum(outcome.passed for outcome in outcomes.values())
        lines = [
            f"{self.suite} on {self.store}: {len(self.direct)} tests, {passed(self.direct)} pass direct, "
            f"{passed(self.through)} through s3veil"
        ]
        lines.append(f"  pass direct, fail through: {len(self.lost)}")
        lines += [f"    {lost}: {reasons.get(lost.test, 'NOT EXPLAINED')}" for lost in self.lost]
        lines.append(f"  fail direct, pass through: {len(self.gained)}")
        lines += [f"    {gained.test}" for gained in self.gained]
        lines.append(f"  differed once and not again: {len(self.unsteady)}")
        lines += [f"    {unsteady}" for unsteady in self.unsteady]
        return "\n".join(lines)


def indent(text):
    return "\n".join("    " + line for line in text.splitlines()[-25:])


class Explained:
    """explained.toml: the tests that can't pass through s3veil. Each reason stands in docs/operations.md, word for word."""

    def __init__(self, path=HERE / "explained.toml"):
        self.entries = tomllib.loads(path.read_text()).get("explained", [])
        documented = words(OPERATIONS.read_text())
        for entry in self.entries:
            if words(entry["reason"]) not in documented:
                raise Failed(f"{path}: a reason does not stand in docs/operations.md: {entry['reason']}")

    def of(self, suite, store):
        """The explained tests of a suite at a store, each with its reason."""
        return {
            test: entry["reason"]
            for entry in self.entries
            if suite in entry["suites"] and store in entry["stores"]
            for test in entry["tests"]
        }


def words(text):
    """Without line breaks and marks of emphasis."""
    return re.sub(r"\s+", " ", text.replace("`", "").replace("*", ""))
