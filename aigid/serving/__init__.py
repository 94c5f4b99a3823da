"""What runs inside a Triton server, beside the graphs."""
