"""What stands between the network and the pages: who may come in, and what may come in with them."""
