"""What chapter 9 alone needs: your own code measured and drawn."""
