"""The settings as options of a verb: each is an option of its own."""

from typing import Annotated

import tyro

from oofline.config import CFG

Settings = Annotated[CFG, tyro.conf.OmitArgPrefixes]
