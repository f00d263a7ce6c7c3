"""``python -m kvlab.sample_app`` serves the sample web app."""

from kvlab.sample_app.app import main

main()
