"""What enters and leaves Onhand: records, requests, answers, and how they are checked."""
