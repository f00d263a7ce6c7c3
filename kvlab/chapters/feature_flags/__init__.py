"""What chapter 8 alone needs: feature flags measured and drawn."""
