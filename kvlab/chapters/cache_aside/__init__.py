"""What chapter 1 alone needs: cache-aside measured and drawn."""
