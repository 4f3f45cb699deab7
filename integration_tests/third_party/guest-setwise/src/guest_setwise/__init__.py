"""A plugin for setwise: attention by averaging, and images of stripes to try it on."""
