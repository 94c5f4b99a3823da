"""A Triton server on this machine, and what runs inside one."""
