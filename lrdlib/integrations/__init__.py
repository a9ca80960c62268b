"""The decay under other people's trainers: a callback for each, which needs its library."""
