"""`python -m lkmongo` is `lkmongo`."""

from lkmongo.cli import main

if __name__ == "__main__":
    main()
