"""What a person reads of a finished artifact: its summary, and the files of words that travel in it."""
