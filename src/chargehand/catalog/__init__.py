"""What can be asked for. Pure: intents, outputs and how values fit them."""
