"""Where a dataset's owner offers it: what a catalog file says under ``download``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from bob.record import Record

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/\S+$")]


class RemoteFile(Record):
    """A file or archive that an owner offers.

    Attributes:
        urls: Its addresses, the owner's first; all hold the same bytes.
        torchvision: ``CLASS`` or ``CLASS/FILE``: address and MD5 are those of torchvision's class,
            unless ``urls`` gives other addresses.
        md5: Digest that publisher or library states.
        sha256: The same, as SHA-256.
        bytes: Size that the publisher states.
        to: Folder below the data root that an archive is unpacked into, or that holds the file;
            empty for the data root.
        gives: What is there afterwards, below the data root; ``a|b`` is either. The file is not
            fetched where all of it is there already.
        count: Number of parts; ``{}`` in the address is then 000, 001 and so on.
        flatten: Whether files are put side by side without the archive's folders.
    """

    urls: tuple[Url, ...] = ()
    torchvision: str = ""
    md5: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    bytes: int | None = Field(default=None, ge=1)
    to: str = ""
    gives: tuple[str, ...] = Field(min_length=1)
    count: int = Field(default=1, ge=1)
    flatten: bool = False

    @field_validator("gives", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("to", "gives")
    @classmethod
    def _below(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for way in "|".join((value,) if isinstance(value, str) else value).split("|"):
            if way.startswith("/") or ".." in way.split("/"):
                raise ValueError("expected a path below the data root")
        return value

    @model_validator(mode="after")
    def _some_address(self) -> RemoteFile:
        if not self.urls and not self.torchvision:
            raise ValueError("give urls or torchvision")
        return self


class Download(Record):
    """How a dataset is fetched.

    Attributes:
        files: What is fetched without asking anybody.
        form: Why the rest cannot be: the login or form its owner wants.
    """

    files: tuple[RemoteFile, ...] = ()
    form: str = ""
