"""What chapter 10 alone needs: load tests measured and drawn."""
