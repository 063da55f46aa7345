"""`python -m yxanul`, and the console script `yxanul`."""

from yxanul.cli.entry import start


def main() -> None:
    """Run the program with the words of the command line."""
    start()


if __name__ == "__main__":
    main()
