"""What chapter 7 alone needs: pipeline measured and drawn."""
