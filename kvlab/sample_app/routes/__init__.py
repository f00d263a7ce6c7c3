"""The routes of the sample web app: one module a pattern, the page, and the request to load."""
