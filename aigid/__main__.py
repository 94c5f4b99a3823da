"""`python -m aigid`: the command line."""

from aigid.cli.main import main

if __name__ == "__main__":
    main()
