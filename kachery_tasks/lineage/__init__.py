"""How something was made, and what was made from it."""
