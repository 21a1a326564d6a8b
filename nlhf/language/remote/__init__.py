"""Questions to a chat model behind a URL: requests, replies, and a cache of replies."""
