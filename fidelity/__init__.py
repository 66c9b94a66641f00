"""What an evaluation costs and when to stop."""
