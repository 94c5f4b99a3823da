"""Ways to run the scan of one shard over all shards."""
