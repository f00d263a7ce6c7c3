"""What chapter 2 alone needs: write-through measured and drawn."""
