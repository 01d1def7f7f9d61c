"""Other annotation formats as lines of your data's format; one file per format."""
