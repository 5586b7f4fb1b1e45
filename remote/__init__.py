"""Running a bundle on a board over SSH, and bringing what it measured back."""
