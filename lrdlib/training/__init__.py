"""How runs are made, measured and kept: config, train, records, runs, store, sweep."""
