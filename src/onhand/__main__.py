"""`python -m onhand` is `onhand`."""

from onhand.cli import main

main()
