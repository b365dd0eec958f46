"""A vendor's "no": what its answer says, raised wherever the reason is found and spelled where the answer is made."""


class Refusal(Exception):
    """`status` is HTTP's, `code` the vendor's own (None: it sends none); `more` are further keys of the body."""

    def __init__(self, status: int, code: int | None, message: str, **more: object) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more

    @property
    def body(self) -> dict[str, object]:
        return {**({} if self.code is None else {"code": self.code}), "message": self.message, **self.more}
