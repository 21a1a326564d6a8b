"""What runs on a GPU as a whole: phases inside the chip, and updates as recorded programs."""
