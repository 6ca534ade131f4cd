"""The chain and the layers that come with it."""
