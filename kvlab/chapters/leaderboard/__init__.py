"""What chapter 6 alone needs: leaderboard measured and drawn."""
