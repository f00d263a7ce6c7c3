"""What chapter 4 alone needs: sessions measured and drawn."""
