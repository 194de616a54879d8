"""Deployment on Kubernetes: a Kustomize base, components, overlays, and what makes the Secrets."""
