"""Ways to draw a scene: each a single `match` over its three marks."""
