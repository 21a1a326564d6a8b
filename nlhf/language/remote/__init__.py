"""Questions to a chat model behind a URL: requests, replies, what was answered before."""
