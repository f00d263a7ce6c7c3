"""``kvlab``, the command of the workbook. Also ``python -m kvlab``.

The logic of each command lies elsewhere: these modules parse arguments and print results. A module
for each reader: ``learner``, ``measuring``, ``trainer``, ``gateway``. ``kvlab --help`` lists the
commands in this order.
"""

from kvlab.cli.app import app, main

from kvlab.cli import learner, measuring, trainer, gateway  # isort: skip

__all__ = ["app", "gateway", "learner", "main", "measuring", "trainer"]
