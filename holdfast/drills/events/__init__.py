"""What can happen in a drill, one file each: to the rows of a window, or to the champion's artefact."""
