"""Search methods over chains: ask and tell; they know chains alone."""
