"""`python -m yxanul`, and the console script `yxanul`."""

from yxanul.cli.main import main

if __name__ == "__main__":
    main()
