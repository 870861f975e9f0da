"""What the server costs, measured beside the way others do it. Never part of a pass or fail."""
