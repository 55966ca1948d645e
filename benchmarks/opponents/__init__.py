"""Other people's routers, and learners that lose, as policies of ``python -m cola_learn.evaluate --policies``."""
