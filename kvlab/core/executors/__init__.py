"""The executors, which run ops and flows: ``Kv`` for threads, ``AsyncKv`` and ``AutoBatch``."""
