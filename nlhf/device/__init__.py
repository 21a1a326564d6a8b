"""What runs on a GPU as a whole: steps of games inside the chip."""
