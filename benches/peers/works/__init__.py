"""The kinds of work, one a file: a class `Work(model, task)` with `call` and `found`."""


class Base:
    """What most works have in common."""

    def found(self) -> dict:
        return {}

    def versions(self) -> dict[str, str]:
        """Libraries beside transformers and torch."""
        return {}
