"""``python -m kvlab`` is the ``kvlab`` command."""

from kvlab_command import main

main()
