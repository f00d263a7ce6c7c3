"""What a server holds: the same when each run begins, and known while a run goes on.

``clean_start`` takes away what a run left, ``script_cache`` loads the same scripts for each run.
``ttls`` run on by the clock of the run. ``write_log`` notes the writes of a run, so that a failover
can take the last of them back.
"""
