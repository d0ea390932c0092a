"""Ways to draw a scene: each a single `match` over its four shapes."""
