"""Sources: installed packages, generators, local folders, the hub; each a stream of documents."""
