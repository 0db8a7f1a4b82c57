"""`python -m prefect_docjobs.cli`, where the console script is not on the path."""

import sys

from prefect_docjobs.cli.app import main

sys.exit(main())
