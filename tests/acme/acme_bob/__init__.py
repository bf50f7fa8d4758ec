"""What acme adds to the battle."""
