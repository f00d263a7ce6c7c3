"""What chapter 3 alone needs: rate limiting measured and drawn."""
