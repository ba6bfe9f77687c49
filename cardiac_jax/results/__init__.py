"""What an evaluation leaves on disk, and how it is read back."""
