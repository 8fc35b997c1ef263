"""What a client sees, held against the published contract."""
