"""`python -m seqjax`."""

from seqjax.cli import main

raise SystemExit(main())
