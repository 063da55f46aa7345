"""The held-out scores of a run; a file is read again where a score was taken again."""

from collections.abc import Mapping
from pathlib import Path

from yxanul.runfolder.scores import DomainScore, read_score

_Written = tuple[str, int, int]
"""A file's name, the time of its last change and its size."""


class HeldOutScores:
    """The files of RUN/scores, of which each look reads those that were written since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[_Written, DomainScore] = {}

    def read(self, branch: Mapping[int, float]) -> dict[str, list[float]]:
        """Return {domain: bits per byte on the branch, by step}; a damaged file is an error.

        Each domain's are of the documents of its newest score. branch {attempt: last step of it
        that counts} is `runfolder.lineage.current_branch`.
        """
        found = map(self._read, self._folder.glob("step-*.json"))
        self._known = dict(one for one in found if one is not None)
        own = [s for s in self._known.values() if s.step <= branch.get(s.attempt, -1)]
        course: dict[str, dict[int, DomainScore]] = {}
        # Of two at one step, which are of the same weights, the later attempt's.
        for score in sorted(own, key=lambda score: (score.step, score.attempt)):
            course.setdefault(score.domain, {})[score.step] = score
        return {domain: _like_the_newest(list(by.values())) for domain, by in course.items()}

    def _read(self, path: Path) -> tuple[_Written, DomainScore] | None:
        """Return a score; None where the run has deleted it since, which it does on a resume."""
        try:
            stat = path.stat()
            written = path.name, stat.st_mtime_ns, stat.st_size
            return written, self._known.get(written) or read_score(path)
        except FileNotFoundError:
            return None


def _like_the_newest(scores: list[DomainScore]) -> list[float]:
    return [score.bpb for score in scores if score.is_of_the_text_of(scores[-1])]
