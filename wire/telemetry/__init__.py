"""What a tier tells of itself without being asked: metrics by remote write, and traces."""
