"""Files that lie elsewhere than in a file of their own: objects of stores, members of archives."""
