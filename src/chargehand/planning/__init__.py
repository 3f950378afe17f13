"""From a decomposition to a plan: order, dependencies, digest, approval. Pure."""
