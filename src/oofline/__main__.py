"""``python -m oofline``."""

from oofline.cli import main

main()
