"""The doors: command line, notebook runner, widgets, project folders."""
