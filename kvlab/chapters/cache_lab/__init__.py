"""What chapter 12 needs: caches of a real server beside the caches of theory."""
