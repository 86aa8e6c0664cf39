"""A small game server: sixty times a second every player is told where everybody is. `python -m cython_game` runs it."""
