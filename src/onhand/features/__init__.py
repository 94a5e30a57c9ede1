"""What is known of an item or a visitor, as numbers: the one definition."""
