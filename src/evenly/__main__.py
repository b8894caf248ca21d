"""``python -m evenly``."""

from evenly.cli import main

if __name__ == "__main__":
    main()
