"""``python -m sli``: the ``sli`` command."""

from ._command import main

main()
