"""Where a publisher's files may come from: a model hub, or a URL."""
