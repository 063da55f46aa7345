"""The held-out scores of a run; a file is read again where a score was taken again."""

from collections.abc import Mapping
from pathlib import Path

from yxanul.runfolder.scores import DomainScore, read_score


class HeldOutScores:
    """The files of RUN/scores, of which each look reads those that were written since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int, int], DomainScore] = {}

    def read(self, branch: Mapping[int, float]) -> dict[str, list[float]]:
        """Return {domain: bits per byte on the branch, by step}; a damaged file is an error.

        branch {attempt: last step of it that counts} is `runfolder.lineage.current_branch`.
        """
        there = {_written(path): path for path in self._folder.glob("step-*.json")}
        self._known = {
            written: self._known.get(written) or read_score(path) for written, path in there.items()
        }
        own = [s for s in self._known.values() if s.step <= branch.get(s.attempt, -1)]
        found: dict[str, dict[int, float]] = {}
        # Of two at one step, which are of the same weights, the later attempt's.
        for score in sorted(own, key=lambda score: (score.step, score.attempt)):
            found.setdefault(score.domain, {})[score.step] = score.bpb
        return {domain: list(steps.values()) for domain, steps in found.items()}


def _written(path: Path) -> tuple[str, int, int]:
    """Return a file's name, the time of its last change and its size."""
    stat = path.stat()
    return path.name, stat.st_mtime_ns, stat.st_size
