"""The Responses API: conversations of items, answered, streamed as typed events, and kept."""
