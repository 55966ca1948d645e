"""Using a controller: a model that chooses its chain of layers, and exporting it for others."""
