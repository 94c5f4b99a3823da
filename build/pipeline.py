"""Build a model repository from a checkpoint: `aigid build`, for a checkout."""

from aigid.cli.build import command as main

__all__ = ["main"]

if __name__ == "__main__":
    main()
