"""``kvlab pack DIR``: a folder to hand round, from which the workbook installs without a network.

Guarantee:

* The folder holds kvlab's own wheel, every wheel that ``kvlab[lab]`` needs on the platforms and the
  Pythons asked for, in the versions of ``requirements.txt``, a working copy of the workbook, a
  start script for each platform, and a README.
* What a platform lacks is printed and stands in the README.
* The folder is there when it is complete, and not before. An interrupted pack leaves nothing.
* Where this machine is one of the platforms, the folder is proved: a new environment is installed
  from the folder alone, and ``kvlab doctor`` runs in it.

Not promised: Python itself. That the folder works on a platform on which it was not proved.
"""
