"""What a person reads; nothing prints here."""
