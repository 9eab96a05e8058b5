"""What is said of a parameter that can't be right. Pure."""


class BadParameter(Exception):
    """A parameter that can't be right; `document` names it, its value and what is allowed."""

    def __init__(self, parameter: str, value: object, message: str) -> None:
        super().__init__(message)
        self.document = {"parameter": parameter, "value": value, "message": message}
