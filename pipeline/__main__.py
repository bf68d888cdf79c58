"""`python -m pipeline` is the command `zarrnorm`."""

from pipeline.cli import main

if __name__ == "__main__":
    main(prog_name="zarrnorm")
