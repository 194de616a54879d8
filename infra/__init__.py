"""The headwater command, the local launcher, the demo models and the deployment files."""
