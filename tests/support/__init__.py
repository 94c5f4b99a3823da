"""What tests share: manifests, servers, processes, clusters."""
