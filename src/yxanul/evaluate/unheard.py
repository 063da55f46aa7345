"""What scoring tells nobody, where nobody listens."""


class Unwatched:
    """A `Watcher` of `yxanul.data.progress` who does not listen."""

    def begin(self, what: str, *, total: int | None) -> None:
        """Take no notice."""

    def advance(self, count: int) -> None:
        """Take no notice."""


def unheeded() -> None:
    """Nobody wants to hear that the model is about to read a batch."""
