"""What keeps an origin's store small and sound: garbage collection, scrubbing, comparison."""
