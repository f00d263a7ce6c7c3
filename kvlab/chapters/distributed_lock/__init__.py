"""What chapter 5 alone needs: distributed lock measured and drawn."""
