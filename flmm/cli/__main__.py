"""`python -m flmm.cli`: the command line where its script is not on the PATH."""

import sys

from flmm.cli.main import main

sys.exit(main())
