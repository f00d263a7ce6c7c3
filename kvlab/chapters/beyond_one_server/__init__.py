"""Chapter 14: what a failover does, and a lock on five nodes."""
