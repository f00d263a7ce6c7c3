"""The sample web app: a FastAPI service over all of the patterns. Needs the extra ``lab``."""
