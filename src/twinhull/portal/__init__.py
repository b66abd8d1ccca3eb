"""What people and their tools look at: the probes now, the web UI on top of them."""
