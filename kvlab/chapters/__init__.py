"""What one chapter alone needs, a file each: ``<pattern>_<what>.py``."""
