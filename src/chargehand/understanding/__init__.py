"""From words to a decomposition: prompts, tiers, confidence. Pure."""
