"""Where a dataset's owner offers it: what a catalog file says under ``download``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from bob.record import Record
from bob.redaction import holds_secret, login_of


def public_address(value: str) -> str:
    """An address without a login or token: it is kept with every result.

    Raises:
        ValueError: It has one.
    """
    if holds_secret(value) or login_of(value).user is not None:
        raise ValueError(
            "a login or token in an address would be kept with every result; put a login into "
            "~/.netrc, or fetch the file and name its path"
        )
    return value


def _address(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^/\s]+/\S+", value):
        raise ValueError("expected an address such as https://owner.example/birds.tgz")
    return public_address(value)


def _given(value: str) -> str:
    if not value:
        raise ValueError("expected an address such as https://owner.example/birds.tgz")
    return value


def _digest(digits: int) -> AfterValidator:
    def check(value: str) -> str:
        if value and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
            raise ValueError(f"expected {digits} hexadecimal digits in lower case")
        return value

    return AfterValidator(check)


Url = Annotated[str, AfterValidator(_address), AfterValidator(_given)]


class RemoteFile(Record):
    """A file or archive that an owner offers.

    Attributes:
        urls: Its addresses, the owner's first; all hold the same bytes.
        torchvision: ``CLASS`` or ``CLASS/FILE``: address and MD5 are those of torchvision's class,
            unless ``urls`` gives other addresses.
        md5: Digest that publisher or library states.
        sha256: The same, as SHA-256.
        md5_url: Address of a text that begins with its MD5, where the publisher keeps it so.
        bytes: Size that the publisher states.
        to: Folder below the data root that an archive is unpacked into, or that holds the file;
            empty for the data root.
        gives: What is there afterwards, below the data root; ``a|b`` is either. The file is not
            fetched where all of it is there already, if only outside of the data root, where a
            package of the system has put it (``a|/usr/share/a``).
        count: Number of parts; ``{}`` in the addresses is then 000, 001 and so on.
        flatten: Whether files are put side by side without the archive's folders.
    """

    urls: tuple[Url, ...] = ()
    torchvision: str = ""
    md5: Annotated[str, _digest(32)] = ""
    sha256: Annotated[str, _digest(64)] = ""
    md5_url: Annotated[str, AfterValidator(_address)] = ""
    bytes: int | None = Field(default=None, ge=1)
    to: str = ""
    gives: tuple[str, ...] = Field(min_length=1)
    count: int = Field(default=1, ge=1)
    flatten: bool = False

    @field_validator("gives", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("to")
    @classmethod
    def _folder_below(cls, value: str) -> str:
        return _below(value)

    @field_validator("gives")
    @classmethod
    def _ways_below(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for ways in value:
            first, *others = ways.split("|")
            if not first:
                raise ValueError("expected a path below the data root")
            for way in (first, *(way for way in others if not way.startswith("/"))):
                _below(way)
        return value

    @model_validator(mode="after")
    def _some_address(self) -> RemoteFile:
        if not self.urls and not self.torchvision:
            raise ValueError("give urls or torchvision")
        addresses = [*self.urls, *([self.md5_url] if self.md5_url else [])]
        if any(("{}" in address) != (self.count > 1) for address in addresses):
            raise ValueError(
                "{} in each address stands for the number of a part: it goes with count"
            )
        if self.count > 1 and (self.md5 or self.sha256 or self.bytes):
            raise ValueError("parts have no digest or size in common; give md5_url")
        return self


def _below(way: str) -> str:
    if way.startswith(("/", "~")) or "\\" in way or ".." in way.split("/"):
        raise ValueError("expected a path below the data root")
    return way


class Download(Record):
    """How a dataset is fetched.

    Attributes:
        files: What is fetched without asking anybody.
        form: Why the rest cannot be: the login or form its owner wants.
    """

    files: tuple[RemoteFile, ...] = ()
    form: str = ""
