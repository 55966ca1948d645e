"""``python -m cola_learn`` lists the commands and runs them."""

from cola_learn.cli import main

if __name__ == "__main__":
    main()
