"""What a run loads: the store, the sample app in front of the store, and how users reach them."""
