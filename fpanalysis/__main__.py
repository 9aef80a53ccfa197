"""``python -m fpanalysis`` is the command line."""

from fpanalysis.cli import main

if __name__ == "__main__":
    main(prog_name="fpanalysis")
