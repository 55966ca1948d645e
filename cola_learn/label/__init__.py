"""Labels: the chains that a search found good for each training question."""
