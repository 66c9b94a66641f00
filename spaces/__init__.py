"""What can be built: search spaces and the networks in them."""
