"""The demo responder: what answers when there is no language model. It does little, and changes nothing in doubt."""
