"""Draws where a backbone's grid of image tokens falls on test pictures, and fails when it is wrong.

What `flmm check-backbone` does.

Usage: python scripts/check_backbone.py CONFIG [--out FOLDER] [--size WIDTH HEIGHT]
"""

import sys

from flmm.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["check-backbone", *sys.argv[1:]]))
