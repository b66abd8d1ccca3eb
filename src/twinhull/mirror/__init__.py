"""What this node asks of registries and scanners that are none of ours."""
