"""Rewards: what makes a chain good, and the judges that run chains to find out."""
