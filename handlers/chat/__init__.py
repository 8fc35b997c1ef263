"""What chat protocols share: conversations, templates, events. Knows no protocol."""
