"""What a user reads of a mistake."""


def assert_one_sentence(stderr: str, *parts: object) -> None:
    """Hold that one line was told, with these parts and no traceback."""
    assert "Traceback" not in stderr
    # A device that lacks the run's precision is told before.
    told = [line for line in stderr.strip().splitlines() if "this device lacks" not in line]
    assert len(told) == 1, stderr
    for part in parts:
        assert str(part) in stderr
