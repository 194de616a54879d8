"""Where an origin's objects are: a local folder, or a bucket."""
