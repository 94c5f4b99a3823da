"""Ways to run the scan of a manifest's shards."""
